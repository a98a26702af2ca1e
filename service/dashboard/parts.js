// Small parts that every page uses.

import { percent } from "./format.js";
import { html, useCallback, useEffect, useState } from "./htm_preact.js";

/**
 * What an asynchronous function gives: { data, error, reload }.
 *
 * `load` gets a signal that is aborted when nobody waits any more. Old data stays while it is loaded anew.
 */
export function useLoaded(load, inputs) {
  const [state, setState] = useState({});
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

export const Loading = ({ children = "Loading…" }) => html`<p class="loading" role="status">${children}</p>`;

/** Up, down and unknown as parts of one bar; the text says the same. */
export function Shares({ up, down, unknown }) {
  const whole = up + down + unknown;
  const parts = [
    ["up", "up", up],
    ["down", "down", down],
    ["unknown", "unknown", unknown],
  ];
  const told = whole ? parts.map(([, name, part]) => `${name} ${percent(part / whole)}`).join(", ") : "no business time";
  return html`
    <div class="shares" role="img" aria-label=${told}>
      ${parts.map(
        ([kind, , part]) => part > 0 && html`<span class=${`fill ${kind}`} style=${{ width: `${(100 * part) / whole}%` }}></span>`,
      )}
    </div>
  `;
}

export const Key = ({ kind, children }) => html`<span class="key"><i class=${`fill ${kind}`} aria-hidden="true"></i>${children}</span>`;

export const storeLink = (id) => `#/stores/${encodeURIComponent(id)}`;
