// Small parts that every page uses.

import { instant, percent } from "./format.js";
import { html, useCallback, useEffect, useId, useRef, useState } from "./htm_preact.js";

/** @typedef {{ data?: any, error?: any }} Loaded */

/**
 * What an asynchronous function gives: { data, error, reload }.
 *
 * `load` gets a signal that is aborted when nobody waits any more. Old data stays while it is loaded anew.
 */
export function useLoaded(load, inputs) {
  const [state, setState] = useState(/** @type {Loaded} */ ({}));
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const abort = new AbortController();
    load(abort.signal).then(
      (data) => abort.signal.aborted || setState({ data }),
      (error) => abort.signal.aborted || setState((before) => ({ data: before.data, error })),
    );
    return () => abort.abort();
  }, [...inputs, turn]);
  const reload = useCallback(() => setTurn((before) => before + 1), []);
  return { ...state, reload };
}

export const Wrong = ({ error, retry }) => html`
  <div class="wrong" role="alert">
    <p>${error.message}</p>
    ${retry && html`<button type="button" onClick=${retry}>Try again</button>`}
  </div>
`;

/** That what is shown is also about time whose polls are gone. */
export const PollsGone = ({ since }) =>
  since &&
  html`<p class="sub">Polls from before <strong>${instant(since)}</strong> are kept no longer: what they said is unknown.</p>`;

export const Loading = ({ children = "Loading…" }) => html`<p class="loading" role="status">${children}</p>`;

/** Up, down and unknown as parts of one bar; the text says the same. */
export function Shares({ up, down, unknown }) {
  const whole = up + down + unknown;
  const parts = [
    ["up", "up", up],
    ["down", "down", down],
    ["unknown", "unknown", unknown],
  ];
  const told = whole
    ? parts.map(([, name, part]) => `${name} ${percent(part / whole)}`).join(", ")
    : "no business time";
  return html`
    <div class="shares" role="img" aria-label=${told}>
      ${parts.map(
        ([kind, , part]) =>
          part > 0 && html`<span class=${`fill ${kind}`} style=${{ width: `${(100 * part) / whole}%` }}></span>`,
      )}
    </div>
  `;
}

/** Below this share of business time, what is known is too little for a large figure to stand on. */
const LITTLE = 0.5;

/**
 * The large figure of a window: its availability, and how much that rests on where little is known.
 *
 * Takes a window's `uptime`, `downtime`, `unknown` and `availability`; children stand beside the figure.
 */
export function Available({ uptime, downtime, unknown, availability, children }) {
  const business = uptime + downtime + unknown;
  const known = (uptime + downtime) / business;
  if (!business) return html`<p class="big little">no business time</p>`;
  if (!known) return html`<p class="big little">nothing known <${Explain} about="unknown" /></p>`;
  const little = known < LITTLE;
  return html`
    <p class=${little ? "big little" : "big"}>
      ${percent(availability)}${" "}<span class="of">available</span><${Explain} about="available" />${children}
      ${little && html`<span class="known">known for only ${percent(known)} of business time</span>`}
    </p>
  `;
}

export const Key = ({ kind, children }) =>
  html`<span class="key"><i class=${`fill ${kind}`} aria-hidden="true"></i>${children}</span>`;

const STEPS = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity };

/**
 * Which of so many marks a key leads to from another one: a number from 0, or undefined for keys that lead nowhere.
 *
 * `row`: marks in a line, of which one above or below is so many away.
 */
export function reached(key, from, marks, row = 0) {
  const step = { ...STEPS, ArrowDown: row, ArrowUp: -row }[key];
  return step ? Math.max(0, Math.min(marks - 1, from + step)) : undefined;
}

/**
 * Asks before what cannot be undone is done; the children say what that is.
 *
 * `act` does it, and may raise a Problem. `onDone` is called once the dialog is closed, which has given the focus back
 * to where it was then.
 */
export function Confirm({ title, yes, act, onClose, onDone, children }) {
  const dialog = useRef();
  const id = useId();
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  useEffect(() => dialog.current.showModal(), []);
  const go = async () => {
    setBusy(true);
    setError(null);
    try {
      await act();
    } catch (problem) {
      setError(problem);
      setBusy(false);
      return;
    }
    dialog.current?.close();
    onDone();
  };
  return html`
    <dialog ref=${dialog} aria-labelledby=${`${id}-title`} aria-describedby=${`${id}-text`} onClose=${onClose}>
      <h2 id=${`${id}-title`}>${title}</h2>
      <p id=${`${id}-text`}>${children}</p>
      ${error && html`<${Wrong} error=${error} />`}
      <div class="actions">
        <button type="button" class="quiet" autofocus onClick=${() => dialog.current.close()}>Keep it</button>
        <button type="button" class="main" disabled=${busy} onClick=${go}>${yes}</button>
      </div>
    </dialog>
  `;
}

/** What the words and numbers of the pages mean: a title and a few sentences for each. */
export const EXPLANATIONS = {
  available: [
    "Available",
    "Uptime as a share of the time of which something is known: up ÷ (up + down). Unknown time counts for neither, so a high share of little known time says little.",
  ],
  up: [
    "Up and down",
    "How long the store was open by its business hours and active, or inactive, by its polls. Up, down, unknown and excluded together are the business time, exactly.",
  ],
  unknown: [
    "Unknown",
    "Time within business hours for which no poll speaks. It is neither uptime nor downtime, and it is never guessed or left out: up + down + unknown + excluded = business time.",
  ],
  excluded: [
    "Excluded",
    "Time within business hours that was said to count neither for nor against the store, such as planned maintenance. What polls found in it says nothing.",
  ],
  nearest: [
    "Interpolation: nearest",
    "Between two polls the store is taken to be as the nearer one found it: a change lies half way between them.",
  ],
  previous: [
    "Interpolation: previous",
    "Between two polls the store is taken to be as the earlier one found it: a change lies at the later poll.",
  ],
  max_gap: [
    "Max gap",
    "For how long a poll speaks at most: to either side with “nearest”, after it with “previous”. Business time farther from any poll is unknown.",
  ],
  estimated: [
    "Polled and estimated",
    "Drawn full: within an hour of a poll that found the store so. Drawn paler and slimmer: farther from such a poll, and estimated from the polls around. Sums count both alike.",
  ],
};

const EXPLAINED_WIDTH = 360; // pixels at the most, as style.css has it
const MARGIN = 8;

/**
 * A `?` that says what a word means: by mouse, touch and keyboard; Escape, another press or a press elsewhere close it.
 *
 * `about` is a name in EXPLANATIONS. What it says is read out when it opens, and is no text of the page before.
 */
export function Explain({ about }) {
  const [title, text] = EXPLANATIONS[about];
  const [open, setOpen] = useState(false);
  const id = useId();
  const button = useRef();
  const box = useRef();
  const onBeforeToggle = ({ newState }) => {
    setOpen(newState === "open");
    const { left, bottom } = button.current.getBoundingClientRect();
    const seen = document.documentElement.clientWidth;
    const most = seen - Math.min(EXPLAINED_WIDTH, seen - 2 * MARGIN) - MARGIN;
    box.current.style.left = `${Math.max(MARGIN, Math.min(left - 12, most)) + scrollX}px`;
    box.current.style.top = `${bottom + 6 + scrollY}px`;
  };
  return html`
    <span class="explain">
      <button type="button" ref=${button} popovertarget=${id} aria-label=${`What is meant: ${title}`}>?</button>
      <span aria-live="polite">
        <span popover="auto" id=${id} ref=${box} class="explained" onBeforeToggle=${onBeforeToggle}>
          ${open && html`<strong>${title}</strong> ${text}`}
        </span>
      </span>
    </span>
  `;
}
