// One store: its week as a timeline in its local time, its outages, its hours.

import { getJson, storePath } from "./api.js";
import { localDays } from "./days.js";
import { clock, count, dayName, exactInstant, instant, percent, span } from "./format.js";
import { Available, Key, Loading, Shares, storeLink, useLoaded, Wrong } from "./parts.js";
import { html, useMemo, useRef, useState } from "./htm_preact.js";

const HOUR = 3_600_000;
const WEEK = 7 * 24 * HOUR;
/** Polls of one status this near to each other, as a share of a day, are one mark. */
const NEAR = 1 / 700;
const WINDOWS = [
  ["Last hour", HOUR],
  ["Last 24 hours", 24 * HOUR],
  ["Last 7 days", WEEK],
];
const WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const iso = (at) => new Date(at).toISOString();

async function load(id, to, signal) {
  const path = storePath(id);
  const store = await getJson(path, { signal });
  try {
    const timeline = await getJson(`${path}/timeline${to ? `?${new URLSearchParams({ to })}` : ""}`, { signal });
    const end = Date.parse(timeline.to);
    const windows = await Promise.all(
      WINDOWS.map(([, length]) => {
        const query = new URLSearchParams({ from: iso(end - length), to: iso(end) });
        return getJson(`${path}/availability?${query}`, { signal });
      }),
    );
    return { store, timeline, windows };
  } catch (problem) {
    if (problem.status !== 409) throw problem; // no poll of any store yet
    return { store };
  }
}

export function Store({ id, query }) {
  const to = query.get("to");
  const { data, error, reload } = useLoaded((signal) => load(id, to, signal), [id, to]);
  const title = html`<p class="back"><a href="#/stores">← All stores</a></p><h1 class="store-id">${id}</h1>`;
  if (error) return html`${title}<${Wrong} error=${error} retry=${reload} />`;
  if (!data) return html`${title}<${Loading} />`;
  const { store, timeline, windows } = data;
  const zone = store.effective_timezone;
  return html`
    ${title}
    <p class="sub">
      ${zone}${store.timezone ? "" : " (none was given: this is the default)"}${" · "}
      ${store.newest_poll
        ? html`last polled ${instant(store.newest_poll.timestamp_utc, zone)}, <strong>${store.newest_poll.status}</strong>`
        : "never polled"}
    </p>
    ${timeline
      ? html`
          <div class="cards">
            ${windows.map(
              ({ uptime, downtime, unknown, availability }, i) => html`
                <section class="card window small">
                  <h2>${WINDOWS[i][0]}</h2>
                  <${Available} uptime=${uptime} downtime=${downtime} unknown=${unknown} availability=${availability} />
                  <${Shares} up=${uptime} down=${downtime} unknown=${unknown} />
                  <p class="legend">
                    <${Key} kind="up">${span(uptime)} up<//><${Key} kind="down">${span(downtime)} down<//><${Key} kind="unknown">${span(unknown)} unknown<//>
                  </p>
                </section>
              `,
            )}
          </div>
          <${Timeline} id=${id} timeline=${timeline} zone=${zone} />
        `
      : html`<p>No store was polled yet, so there is nothing to show but its hours.</p>`}
    <div class="two">
      ${timeline && html`<${Outages} timeline=${timeline} zone=${zone} />`}
      <${BusinessHours} hours=${store.business_hours} zone=${zone} />
    </div>
  `;
}

/** The days of the window, each with its own part of the segments and polls. */
function daysOf(timeline, zone) {
  const [from, to] = [Date.parse(timeline.from), Date.parse(timeline.to)];
  const segments = timeline.segments.map(({ start, end, state }) => ({ start: Date.parse(start), end: Date.parse(end), state }));
  const polls = timeline.polls.map(({ timestamp_utc: at, status }) => ({ at: Date.parse(at), status }));
  return localDays(from, to, zone).map((day) => {
    const [start, end] = [Math.max(day.start, from), Math.min(day.end, to)];
    const parts = segments
      .filter((segment) => segment.start < end && segment.end > start)
      .map((segment) => ({ ...segment, start: Math.max(segment.start, start), end: Math.min(segment.end, end) }));
    const sums = { up: 0, down: 0, unknown: 0, closed: 0 };
    for (const part of parts) sums[part.state] += (part.end - part.start) / 1000;
    const within = polls.filter(({ at }) => at >= day.start && at < day.end);
    return { ...day, parts, sums, polls: apart(within), polled: within.length };
  });
}

function apart(polls) {
  const newest = {};
  return polls.filter(({ at, status }) => {
    const near = at - (newest[status] ?? -Infinity) < NEAR * 24 * HOUR;
    if (!near) newest[status] = at;
    return !near;
  });
}

function Timeline({ id, timeline, zone }) {
  const days = useMemo(() => daysOf(timeline, zone), [timeline, zone]);
  const [pointed, setPointed] = useState(null);
  const [stop, setStop] = useState(0); // the one mark that Tab reaches
  const box = useRef();
  const scale = Math.max(24 * HOUR, ...days.map(({ start, end }) => end - start));
  const to = Date.parse(timeline.to);
  const marks = days.reduce((sum, day) => sum + day.polls.length, 0);
  const polled = days.reduce((sum, day) => sum + day.polled, 0);

  const walk = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
    if (!step || !event.target.dataset.poll) return;
    event.preventDefault();
    const next = Math.max(0, Math.min(marks - 1, stop + step));
    setStop(next);
    box.current.querySelector(`[data-poll="${next}"]`).focus();
  };

  let number = 0;
  return html`
    <section class="card" aria-labelledby="week">
      <div class="head">
        <h2 id="week">The week to ${instant(timeline.to, zone)}</h2>
        <p class="legend">
          <${Key} kind="up">up<//><${Key} kind="down">down<//><${Key} kind="unknown">unknown<//><${Key} kind="closed">closed<//>
          <span class="key"><i class="poll-key active" aria-hidden="true"></i>active poll</span>
          <span class="key"><i class="poll-key inactive" aria-hidden="true"></i>inactive poll</span>
        </p>
      </div>
      <ol class="timeline" ref=${box} onKeyDown=${walk} onMouseLeave=${() => setPointed(null)}>
        ${days.map((day) => {
          const firstPoll = number;
          number += day.polls.length;
          return html`<${Day} day=${day} zone=${zone} scale=${scale} firstPoll=${firstPoll} stop=${stop} setStop=${setStop} pointed=${pointed} point=${setPointed} />`;
        })}
      </ol>
      <div class="foot">
        <p class="sub">
          ${count(polled)} polls${marks < polled ? `, of which ${count(marks)} are drawn` : ""}; point at a mark, or use Tab and the arrow keys.
          Times are those of ${zone}.
        </p>
        <nav aria-label="Weeks" class="actions">
          <a class="button" href=${`${storeLink(id)}?to=${encodeURIComponent(iso(to - WEEK))}`}>← Week before</a>
          <a class="button" href=${`${storeLink(id)}?to=${encodeURIComponent(iso(to + WEEK))}`}>Week after →</a>
          <a class="button" href=${storeLink(id)}>Newest</a>
        </nav>
      </div>
    </section>
  `;
}

const LIST = ["up", "down", "unknown", "closed"];

function Day({ day, zone, scale, firstPoll, stop, setStop, pointed, point }) {
  const at = (instantOf) => `${(100 * (instantOf - day.start)) / scale}%`;
  const width = (length) => `${(100 * length) / scale}%`;
  const length = (day.end - day.start) / HOUR;
  const told = LIST.filter((state) => day.sums[state]).map((state) => `${state} ${span(day.sums[state])}`).join(", ");
  const name = dayName(day.start, zone);
  const noon = (day.start + day.end) / 2;
  return html`
    <li class=${day.changes.length ? "day changed" : "day"}>
      <p class="day-name">
        ${name}${length !== 24 && html`<span class="length">${length} h</span>`}
        <span class="hidden">: ${told}; ${day.polled} polls</span>
      </p>
      <div class="track-box">
        <div class="track" style=${{ width: width(day.end - day.start) }}></div>
        ${day.parts.map(
          ({ start, end, state }) => html`
            <div
              class=${`segment fill ${state}`}
              style=${{ left: at(start), width: width(end - start) }}
              title=${`${state}: ${clock(start, zone)} to ${clock(end, zone)}, ${span((end - start) / 1000)}`}
            ></div>
          `,
        )}
        ${day.ticks.map(({ at: tick, hour }) => hour % 3 === 0 && tick > day.start && html`<div class="tick" style=${{ left: at(tick) }}></div>`)}
        ${day.changes.map(({ at: change, from, to }) => {
          const text = `Clocks go ${to > from ? "forward" : "back"}: ${hm(change + from)} becomes ${hm(change + to)}`;
          return html`<div class="clock-change" style=${{ left: at(change) }} title=${text}><span class="hidden">${text}</span></div>`;
        })}
        ${day.polls.map(({ at: poll, status }, i) => {
          const label = `${status}, ${exactInstant(poll, zone)}`;
          const number = firstPoll + i;
          const show = () => point({ number, label });
          return html`
            <span
              class=${`poll ${status}`}
              style=${{ left: at(poll) }}
              role="img"
              aria-label=${`Poll: ${label}`}
              tabindex=${number === stop ? 0 : -1}
              data-poll=${number}
              onMouseEnter=${show}
              onFocus=${() => (setStop(number), show())}
              onBlur=${() => point(null)}
            >
              ${pointed?.number === number && html`<span class=${`tip ${poll > noon ? "left" : ""}`} aria-hidden="true">${label}</span>`}
            </span>
          `;
        })}
      </div>
      <p class="day-sum" aria-hidden="true">${day.sums.down ? span(day.sums.down) : ""}</p>
      <div class="hours" aria-hidden="true">
        ${day.ticks.map(({ at: tick, hour }) => hour % 3 === 0 && html`<span class=${hour % 6 ? "minor" : ""} style=${{ left: at(tick) }}>${hour}</span>`)}
      </div>
    </li>
  `;
}

const hm = (local) => new Date(local).toISOString().slice(11, 16);

function Outages({ timeline, zone }) {
  const outages = timeline.segments.filter(({ state }) => state === "down").reverse();
  return html`
    <section class="card">
      <h2>Outages <span class="of">${count(outages.length)}, newest first</span></h2>
      ${outages.length
        ? html`
            <div class="scroll short" tabindex="0" role="region" aria-label="Outages">
              <table class="outages">
                <thead>
                  <tr><th scope="col">Start</th><th scope="col">End</th><th scope="col" class="number">Length</th></tr>
                </thead>
                <tbody>
                  ${outages.map(
                    ({ start, end }) => html`
                      <tr>
                        <td>${dayName(start, zone)}, ${clock(start, zone)}</td>
                        <td>${dayName(end, zone)}, ${clock(end, zone)}${end === timeline.to ? html` <span class="of">(not over)</span>` : ""}</td>
                        <td class="number">${span((Date.parse(end) - Date.parse(start)) / 1000)}</td>
                      </tr>
                    `,
                  )}
                </tbody>
              </table>
            </div>
          `
        : html`<p class="sub">None within business hours this week.</p>`}
    </section>
  `;
}

function BusinessHours({ hours, zone }) {
  return html`
    <section class="card">
      <h2>Business hours <span class="of">${zone}</span></h2>
      ${hours.length
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
        : html`<p>Always open: no hours were given.</p>`}
    </section>
  `;
}

function openOn(hours, day) {
  const rows = hours.filter((row) => row.day === day);
  if (!rows.length) return html`<span class="sub">closed</span>`;
  return rows.map(
    ({ start_time_local: start, end_time_local: end }) =>
      html`<span class="hours-row">${openRow(start.replace(/:00$/, ""), end.replace(/:00$/, ""))}</span>`,
  );
}

function openRow(start, end) {
  const midnight = end >= "23:59" || end === "00:00";
  if (start === "00:00" && midnight) return "all day";
  if (midnight) return `${start} to midnight`;
  return end <= start ? `${start} to ${end} on the next day` : `${start} to ${end}`;
}
