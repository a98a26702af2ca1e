// One store: its week as a timeline in its local time, its outages, its hours.

import { getJson, storePath } from "../api.js";
import { DEFAULT_OPTIONS } from "../chosen.js";
import { DAY, HOUR, LocalTime } from "../days.js";
import { clock, count, dayName, exactInstant, exactSpan, instant, span, WEEKDAYS, WINDOW_NAMES } from "../format.js";
import { html, useMemo, useRef, useState } from "../htm_preact.js";
import { Available, Explain, Key, Loading, PollsGone, reached, Shares, useLoaded, Wrong } from "../parts.js";
import { address } from "../view.js";
import { daysOf, POLLED_WITHIN, weekOf } from "../week.js";

const WEEK = 7 * DAY;
/** The options that a page's address may have. */
const OPTIONS = Object.keys(DEFAULT_OPTIONS);
const OPTION_NAMES = { interpolation: "interpolation", max_gap: "max gap" };
const iso = (at) => new Date(at).toISOString();

/** Those of some parameters that are given. */
const given = (query, names) =>
  Object.fromEntries(names.filter((name) => query.get(name)).map((name) => [name, query.get(name)]));

async function load(id, asked, signal) {
  const path = storePath(id);
  const store = await getJson(path, { signal });
  const ask = (what, query) => getJson(`${path}/${what}?${new URLSearchParams({ ...asked, ...query })}`, { signal });
  try {
    const week = await ask("availability");
    const [from, to] = [Date.parse(week.from), Date.parse(week.to)];
    const [day, hour, timeline] = await Promise.all([
      ask("availability", { from: iso(to - DAY), to: week.to }),
      ask("availability", { from: iso(to - HOUR), to: week.to }),
      // From as much earlier as tells how it was when the week began.
      ask("timeline", { from: iso(Math.max(0, from - POLLED_WITHIN)), to: week.to }),
    ]);
    const windows = [
      [WINDOW_NAMES.hour, hour],
      [WINDOW_NAMES.day, day],
      [WINDOW_NAMES.week, week],
    ];
    return { store, windows, week: weekOf(timeline, from), clocks: new LocalTime(timeline), options: timeline };
  } catch (problem) {
    if (problem.status !== 409) throw problem; // no poll of any store yet
    return { store };
  }
}

export function Store({ id, query }) {
  const asked = given(query, ["to", ...OPTIONS]);
  const { data, error, reload } = useLoaded((signal) => load(id, asked, signal), [id, JSON.stringify(asked)]);
  const report = given(query, ["report"]);
  const title = html`<p class="back"><a href=${address("stores", report)}>← All stores</a></p><h1 class="store-id">${id}</h1>`;
  if (error) return html`${title}<${Wrong} error=${error} retry=${reload} />`;
  if (!data) return html`${title}<${Loading} />`;
  const { store, windows, week, clocks, options } = data;
  const zone = store.effective_timezone;
  return html`
    ${title}
    <p class="sub">
      ${zone}${store.timezone ? "" : " (none was given: this is the default)"}${" · "}
      ${store.newest_poll ? html`last polled ${polledAt(store, clocks)}, <strong>${store.newest_poll.status}</strong>` : "never polled"}
    </p>
    <${PollsGone} since=${week && options.polls_kept_since} />
    ${week && html`<${NotTheDefault} to=${asked.to && week.to} options=${options} clocks=${clocks} link=${address(storePath(id), report)} />`}
    ${
      week
        ? html`
          <div class="cards">
            ${windows.map(
              ([name, window]) => html`
                <section class="card window small">
                  <h2>${name}</h2>
                  <${Available} ...${window} />
                  <${Shares} up=${window.uptime} down=${window.downtime} unknown=${window.unknown} />
                  <p class="legend">
                    <${Key} kind="up">${exactSpan(window.uptime)} up<//><${Key} kind="down">${exactSpan(window.downtime)} down<//>
                    <${Key} kind="unknown">${exactSpan(window.unknown)} unknown<//>
                  </p>
                </section>
              `,
            )}
          </div>
          <${Timeline} key=${week.to} id=${id} query=${query} week=${week} options=${options} clocks=${clocks} zone=${zone} />
        `
        : html`<p>No store was polled yet, so there is nothing to show but its hours.</p>`
    }
    <div class="two">
      ${week && html`<${Outages} week=${week} clocks=${clocks} />`}
      <${BusinessHours} hours=${store.counted_hours} zone=${zone} />
    </div>
  `;
}

/** The store's newest poll may be far from the week that is shown, and so from the offsets that are known. */
function polledAt({ newest_poll: { timestamp_utc: at } }, clocks) {
  return clocks?.covers(Date.parse(at)) ? instant(at, clocks) : instant(at);
}

/** Which end and options the figures are for, where they are not those that the page has by itself. */
function NotTheDefault({ to, options, clocks, link }) {
  const other = OPTIONS.filter((name) => options[name] !== DEFAULT_OPTIONS[name]);
  if (!to && !other.length) return null;
  return html`
    <p class="other-options">
      ${to && html`As of <strong>${instant(to, clocks)}</strong>: later polls do not count. `}
      ${other.map((name, i) => html`${i ? ", " : "With "}${OPTION_NAMES[name]} <strong>${options[name]}</strong> instead of ${DEFAULT_OPTIONS[name]}`)}${other.length ? ". " : ""}
      <a class="to-default" href=${link}>Newest, with default options</a>
    </p>
  `;
}

const lengthOf = ({ start, end }) => exactSpan((end - start) / 1000);

/** What a part of the timeline says of itself. */
function toldOf({ state, estimated, start, end, earlier, ongoing }, clocks) {
  const begin = earlier ? `before ${clock(start, clocks)}` : clock(start, clocks);
  return `${state}${estimated ? ", estimated" : ""}: ${begin} to ${clock(end, clocks)}${ongoing ? " (not over)" : ""}, ${earlier ? "at least " : ""}${lengthOf({ start, end })}`;
}

function Timeline({ id, query, week, options, clocks, zone }) {
  const days = useMemo(() => daysOf(week, clocks), [week, clocks]);
  const [pointed, setPointed] = useState(null); // { kind, number } of the mark that is pointed at
  const [stops, setStops] = useState({ part: 0, poll: 0 }); // the one mark of each kind that Tab reaches
  const box = useRef();
  const scale = Math.max(DAY, ...days.map(({ start, end }) => end - start));
  const marks = {
    part: days.reduce((sum, day) => sum + day.parts.length, 0),
    poll: days.reduce((sum, day) => sum + day.polls.length, 0),
  };
  const polled = days.reduce((sum, day) => sum + day.polled, 0);
  const kept = given(query, [...OPTIONS, "report"]);
  const at = (to) => address(storePath(id), { ...kept, ...to });

  const onKey = (event) => {
    if (event.key === "Escape") setPointed(null);
    const { kind } = event.target.dataset;
    const next = kind && reached(event.key, stops[kind], marks[kind]);
    if (next === undefined) return;
    event.preventDefault();
    setStops({ ...stops, [kind]: next });
    box.current.querySelectorAll(`[data-kind="${kind}"]`)[next].focus();
  };

  const numbers = { part: 0, poll: 0 };
  return html`
    <section class="card" aria-labelledby="week">
      <div class="head">
        <h2 id="week">The week to ${instant(week.to, clocks)}</h2>
        <p class="legend">
          <${Key} kind="up">up<//>
          <span><${Key} kind="down">down<//><${Explain} about="up" /></span>
          <span><${Key} kind="up estimated">estimated<//><${Explain} about="estimated" /></span>
          <span><${Key} kind="unknown">unknown<//><${Explain} about="unknown" /></span>
          <span><${Key} kind="excluded">excluded<//><${Explain} about="excluded" /></span>
          <${Key} kind="closed">closed<//>
          <span class="key"><i class="poll-key active" aria-hidden="true"></i>active poll</span>
          <span class="key"><i class="poll-key inactive" aria-hidden="true"></i>inactive poll</span>
        </p>
      </div>
      <ol class="timeline" ref=${box} onKeyDown=${onKey} onMouseLeave=${() => setPointed(null)}>
        ${days.map((day) => {
          const first = { ...numbers };
          numbers.part += day.parts.length;
          numbers.poll += day.polls.length;
          return html`<${Day} day=${day} clocks=${clocks} scale=${scale} first=${first} stops=${stops} setStops=${setStops} pointed=${pointed} point=${setPointed} />`;
        })}
      </ol>
      <p class="sub made-with">
        Interpolation ${options.interpolation}<${Explain} about=${options.interpolation} />, max gap ${options.max_gap}<${Explain} about="max_gap" />.
        Times are those of ${zone}.
      </p>
      <div class="foot">
        <p class="sub">
          ${count(polled)} polls${marks.poll < polled ? `, of which ${count(marks.poll)} are drawn` : ""}.
          <span class="how">${" "}Point at a bar or a mark, touch it, or go there by Tab and the arrow keys.</span>
        </p>
        <nav aria-label="Weeks" class="actions">
          <a class="button" href=${at({ to: iso(week.to - WEEK) })}>← Week before</a>
          <a class="button" href=${at({ to: iso(week.to + WEEK) })}>Week after →</a>
          <a class="button" href=${at({})}>Newest</a>
        </nav>
      </div>
    </section>
  `;
}

const LIST = ["up", "down", "unknown", "excluded", "closed"];

function Day({ day, clocks, scale, first, stops, setStops, pointed, point }) {
  const share = (length) => `${(100 * length) / scale}%`;
  const left = (at) => share(at - day.start);
  const length = (day.end - day.start) / HOUR;
  const told = LIST.filter((state) => day.sums[state])
    .map((state) => `${state} ${span(day.sums[state])}`)
    .join(", ");
  /** @type {{ label: string, middle: number }[]} */
  const tips = []; // of the mark that is pointed at, if it is of this day

  /** What makes a mark of something: it tells what it is when it is pointed at, touched, or reached by keys. */
  const mark = (kind, i, label, from, to) => {
    const number = first[kind] + i;
    const show = () => point({ kind, number });
    if (pointed?.kind === kind && pointed.number === number) tips.push({ label, middle: (from + to) / 2 });
    return {
      role: "img",
      "aria-label": kind === "poll" ? `Poll: ${label}` : label,
      tabindex: number === stops[kind] ? 0 : -1,
      "data-kind": kind,
      onMouseEnter: show,
      onFocus: () => {
        setStops((before) => ({ ...before, [kind]: number }));
        show();
      },
      onBlur: () => point(null),
    };
  };

  const parts = day.parts.map((part, i) => {
    const kind = part.estimated ? `segment fill ${part.state} estimated` : `segment fill ${part.state}`;
    const style = { left: left(part.start), width: share(part.end - part.start) };
    return html`<div class=${kind} style=${style} ...${mark("part", i, toldOf(part, clocks), part.start, part.end)}></div>`;
  });
  const polls = day.polls.map(({ at, status }, i) => {
    const label = `${status}, ${exactInstant(at, clocks)}`;
    return html`<span class=${`poll ${status}`} style=${{ left: left(at) }} ...${mark("poll", i, label, at, at)}></span>`;
  });
  return html`
    <li class=${day.changes.length ? "day changed" : "day"}>
      <p class="day-name">
        ${dayName(day.start, clocks)}${length !== 24 && html`<span class="length">${length} h</span>`}
        <span class="hidden">: ${told}; ${day.polled} polls</span>
      </p>
      <div class="track-box">
        <div class="track" style=${{ width: share(day.end - day.start) }}></div>
        ${parts}
        ${day.ticks.map(({ at, hour }) => hour % 3 === 0 && at > day.start && html`<div class="tick" style=${{ left: left(at) }}></div>`)}
        ${day.changes.map(([, { start }]) => html`<div class="clock-change" style=${{ left: left(start) }}></div>`)}
        ${polls}
        ${tips.map(({ label, middle }) => {
          const style = { left: left(middle), transform: `translateX(-${left(middle)})` };
          return html`<span class="tip" style=${style} aria-hidden="true">${label}</span>`;
        })}
      </div>
      <p class="day-sum" aria-hidden="true">${day.sums.down ? span(day.sums.down) : ""}</p>
      <div class="hours" aria-hidden="true">
        ${day.ticks.map(({ at, hour }) => hour % 3 === 0 && html`<span class=${hour % 6 ? "minor" : ""} style=${{ left: left(at) }}>${hour}</span>`)}
      </div>
      ${day.changes.map((change) => html`<p class="change-note">${changeOf(change)}</p>`)}
    </li>
  `;
}

const hm = (local) => new Date(local).toISOString().slice(11, 16);

function changeOf([before, after]) {
  const at = after.start;
  const [from, to] = [
    `${hm(at + before.ahead)} ${before.abbreviation}`,
    `${hm(at + after.ahead)} ${after.abbreviation}`,
  ];
  const how =
    after.ahead === before.ahead
      ? "Another name of the same time"
      : `Clocks go ${after.ahead > before.ahead ? "forward" : "back"}`;
  return `${how}: ${from} becomes ${to}`;
}

function Outages({ week, clocks }) {
  const outages = week.segments.filter(({ state }) => state === "down").reverse();
  const when = (at) => `${dayName(at, clocks)}, ${clock(at, clocks)}`;
  const until = ({ start, end }) => (clocks.dateOf(start) === clocks.dateOf(end) ? clock(end, clocks) : when(end));
  return html`
    <section class="card">
      <h2>Outages <span class="of">${count(outages.length)}, newest first</span></h2>
      ${
        outages.length
          ? html`
            <div class="scroll short" tabindex="0" role="region" aria-label="Outages">
              <table class="outages">
                <thead>
                  <tr><th scope="col">Start</th><th scope="col">End</th><th scope="col" class="number">Length</th></tr>
                </thead>
                <tbody>
                  ${outages.map(
                    (outage) => html`
                      <tr>
                        <td>${outage.earlier ? "before " : ""}${when(outage.start)}</td>
                        <td>${until(outage)}${outage.ongoing ? html` <span class="of">(not over)</span>` : ""}</td>
                        <td class="number">${outage.earlier ? "at least " : ""}${lengthOf(outage)}</td>
                      </tr>
                    `,
                  )}
                </tbody>
              </table>
            </div>
          `
          : html`<p class="sub">None within business hours this week.</p>`
      }
    </section>
  `;
}

function BusinessHours({ hours, zone }) {
  return html`
    <section class="card">
      <h2>Business hours <span class="of">${zone}</span></h2>
      ${
        hours.length
          ? html`
            <table class="week">
              <tbody>
                ${WEEKDAYS.map(
                  (name, day) => html`
                    <tr><th scope="row">${name}</th><td>${openOn(hours, day)}</td></tr>
                  `,
                )}
              </tbody>
            </table>
          `
          : html`<p>Always open: no hours were given.</p>`
      }
    </section>
  `;
}

function openOn(hours, day) {
  const rows = hours.filter((row) => row.day === day);
  if (!rows.length) return html`<span class="sub">closed</span>`;
  return rows.map(
    ({ start_time_local: start, end_time_local: end, ends_on_next_day: overnight }) =>
      html`<span class="hours-row">${openRow(start.replace(/:00$/, ""), end.replace(/:00$/, ""), overnight)}</span>`,
  );
}

function openRow(start, end, overnight) {
  if (end === "24:00") return start === "00:00" ? "all day" : `${start} to midnight`;
  return `${start} to ${end}${overnight ? " on the next day" : ""}`;
}
