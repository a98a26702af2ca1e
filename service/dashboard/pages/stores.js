// The stores of the chosen report, in a table of any length: only the rows in sight are fetched and drawn.

import { getJson, saveCsv } from "../api.js";
import { ChosenHead, CONDITIONS, NoReport, storeOfReport, useChosen } from "../chosen.js";
import { count, instant, percent, span } from "../format.js";
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../htm_preact.js";
import { Loading, useLoaded, Wrong } from "../parts.js";
import { ReportRows } from "../report_rows.js";
import { choose, remember, remembered } from "../view.js";

const MORE_ROWS = 8; // drawn above and below those in sight
const TALLEST = 8_000_000; // pixels; browsers draw no element of much more
const [TYPING, STILL] = [200, 200]; // milliseconds: until nobody types, or scrolls
const FIRST_ROWS = 30; // fetched before the height of the table is known
/**
 * How the columns of a window are headed, and in which unit, of so many seconds, they are.
 *
 * @type {[string, string, number][]}
 */
const WINDOWS = [
  ["week", "Last 7 days, hours", 3600],
  ["day", "Last 24 hours, hours", 3600],
  ["hour", "Last hour, minutes", 60],
];
const KINDS = [
  ["downtime", "Down", "value"],
  ["unknown", "Unknown", "unknown-value"],
  ["uptime", "Up", "value"],
];
const BELOW = [
  ["", "Any availability"],
  ["1", "With downtime"],
  ["0.999", "Below 99.9 %"],
  ["0.99", "Below 99 %"],
  ["0.95", "Below 95 %"],
  ["0.9", "Below 90 %"],
  ["0.5", "Below 50 %"],
];
const WORST_FIRST = "availability_last_week";
const FILTERS = ["search", "timezone", "condition", "below"];

/** What the service is asked for, of what the address says. */
function askedOf(query) {
  const asked = FILTERS.filter((name) => query.get(name)).map((name) => [name, query.get(name)]);
  return new URLSearchParams([...asked, ["sort", query.get("sort") || WORST_FIRST]]).toString();
}

export function Stores({ query }) {
  const chosen = useChosen(query);
  const { data, error, reload } = chosen;
  if (error) return html`<h1>Stores</h1><${Wrong} error=${error} retry=${reload} />`;
  if (!data) return html`<h1>Stores</h1><${Loading} />`;
  if (!data.report) return html`<h1>Stores</h1><${NoReport} chosen=${chosen} />`;
  return html`
    <${ChosenHead} title="Stores" chosen=${chosen}>Each store<//>
    <${Table} report=${data.report} query=${query} />
  `;
}

function Table({ report, query }) {
  const asked = askedOf(query);
  const [, redraw] = useState(0);
  const rows = useMemo(() => new ReportRows(report, asked, () => redraw((before) => before + 1)), [report.id, asked]);
  useEffect(() => () => rows.end(), [rows]);
  const shown = useRef(null);
  // What was shown stays until the first rows of what is asked for now are there.
  if (rows.total !== null || !shown.current) shown.current = rows;
  useEffect(() => rows.show(0, FIRST_ROWS), [rows]);
  const { total } = shown.current;
  const all = report.progress.stores_done;
  const busy = rows.total === null && !rows.error;
  const [error, setError] = useState(null);
  const download = () =>
    saveCsv(`reports/${report.id}/stores?${asked}`, `stores-${report.id}.csv`).then(
      () => setError(null),
      (problem) => setError(problem),
    );

  return html`
    <form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}>
      <${Search} said=${query.get("search") || ""} />
      <${ZoneFilter} report=${report} zone=${query.get("timezone") || ""} />
      <label>
        Condition
        <select value=${query.get("condition") || ""} onChange=${(event) => choose({ condition: event.target.value })}>
          <option value="">Any</option>
          ${CONDITIONS.map(({ condition, name }) => html`<option value=${condition}>${name}</option>`)}
        </select>
      </label>
      <label>
        Last 7 days
        <select value=${query.get("below") || ""} onChange=${(event) => choose({ below: event.target.value })}>
          ${BELOW.map(([value, name]) => html`<option value=${value}>${name}</option>`)}
        </select>
      </label>
      <p class="sub" role="status">${busy ? "Loading…" : `${count(total ?? 0)} of ${count(all)} stores`}</p>
      <button type="button" disabled=${busy || !total} onClick=${download}>
        Download ${total === all ? "all" : `these ${count(total ?? 0)}`} as CSV
      </button>
    </form>
    ${(error || rows.error) && html`<${Wrong} error=${error || rows.error} retry=${error ? download : () => rows.retry()} />`}
    ${total !== null && html`<${Rows} report=${report} rows=${shown.current} sort=${query.get("sort") || WORST_FIRST} />`}
  `;
}

/** What is typed is in the address a moment later, when nobody types. */
function Search({ said }) {
  const [text, setText] = useState(said);
  const typed = useRef(said);
  const timer = useRef();
  const show = (now) => {
    typed.current = now;
    setText(now);
  };
  useEffect(() => {
    if (said !== typed.current.trim()) show(said); // by "back", or a link
  }, [said]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const type = (event) => {
    show(event.target.value);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => choose({ search: typed.current.trim() }, { replace: true }), TYPING);
  };
  return html`<label>Search<input type="search" value=${text} maxlength="255" placeholder="Part of a store's id" onInput=${type} /></label>`;
}

function ZoneFilter({ report, zone }) {
  const { data } = useLoaded((signal) => getJson(`reports/${report.id}/timezones`, { signal }), [report.id]);
  const zones = data?.items || [];
  const missing = zone && !zones.some(({ timezone }) => timezone === zone);
  return html`
    <label>
      Time zone
      <select value=${zone} onChange=${(event) => choose({ timezone: event.target.value })}>
        <option value="">Any zone</option>
        ${missing && html`<option value=${zone}>${zone}</option>`}
        ${zones.map(({ timezone, stores }) => html`<option key=${timezone} value=${timezone}>${timezone} (${count(stores)})</option>`)}
      </select>
    </label>
  `;
}

function Rows({ report, rows, sort }) {
  const box = useRef();
  const [{ top, height }, setSeen] = useState({ top: 0, height: 600 });
  const rowHeight = useMemo(() => parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--row")), []);
  const { total } = rows;

  const whole = total * rowHeight;
  const tall = Math.min(whole, TALLEST);
  const inSight = Math.ceil(height / rowHeight);
  // Of more rows than an element may be tall, scrolling passes several at a time.
  const stretch = tall > height ? (whole - height) / (tall - height) : 1;
  const first = Math.max(0, Math.min(Math.floor((top * stretch) / rowHeight) - MORE_ROWS, total - inSight));
  const last = Math.min(total, first + inSight + 2 * MORE_ROWS);
  const above = Math.max(0, Math.min(first * rowHeight - top * (stretch - 1), tall - (last - first) * rowHeight));
  const moved = Math.round(above - first * rowHeight);

  const look = () => {
    const { scrollTop, clientHeight } = box.current;
    setSeen((before) => {
      const same = stretch === 1 && Math.floor(scrollTop / rowHeight) === Math.floor(before.top / rowHeight);
      return same && before.height === clientHeight ? before : { top: scrollTop, height: clientHeight };
    });
  };
  useLayoutEffect(() => {
    const watching = new ResizeObserver(look);
    watching.observe(box.current);
    return () => watching.disconnect();
  }, []);
  const saving = useRef();
  useLayoutEffect(() => {
    box.current.scrollTop = remembered("top") ?? 0; // another order, or "back": where it was then
    look();
    return () => clearTimeout(saving.current);
  }, [rows]);
  const save = () => {
    clearTimeout(saving.current);
    remember("top", box.current.scrollTop);
  };
  const scroll = () => {
    look();
    clearTimeout(saving.current);
    saving.current = setTimeout(save, STILL);
  };
  useEffect(() => rows.show(first, last), [rows, first, last]);

  // Rows that stay in sight are the same objects again, which Preact passes over.
  const drawnRows = useMemo(() => new Map(), [rows, report.chosen, moved]);
  for (const at of drawnRows.keys()) if (at < first || at >= last) drawnRows.delete(at);
  const shown = [];
  for (let at = first; at < last; at += 1) {
    const store = rows.at(at);
    const days = store && rows.days(store.store_id);
    const drawn = drawnRows.get(at);
    if (!drawn || drawn.store !== store || drawn.days !== days) {
      const top = at * rowHeight + moved;
      const row = html`<${Row} key=${at} at=${at} top=${top} store=${store} days=${days} report=${report} />`;
      drawnRows.set(at, { store, days, row });
    }
    shown.push(drawnRows.get(at).row);
  }
  // Laid out by flex, not as a table: a row that comes into sight then moves no other. So roles are said.
  return html`
    <div class="scroll card grid" ref=${box} onScroll=${scroll} onClickCapture=${save} tabindex="0" role="region" aria-label="Table of stores">
      <table role="table" aria-rowcount=${total + 2}>
        <thead role="rowgroup">
          <tr role="row">
            <td role="cell" class="id"></td><td role="cell" class="zone"></td>
            <th role="columnheader" scope="colgroup" class="week" aria-colspan="2">Last 7 days</th>
            ${WINDOWS.map(([, title]) => html`<th role="columnheader" scope="colgroup" class="group" aria-colspan="3">${title}</th>`)}
          </tr>
          <tr role="row">
            <${Head} column="store_id" kind="id" sort=${sort}>Store<//>
            <${Head} column="timezone" kind="zone" sort=${sort}>Time zone<//>
            <${Head} column=${WORST_FIRST} kind="available" sort=${sort}>Available<//>
            <th role="columnheader" scope="col" class="days">By day</th>
            ${WINDOWS.map(([window]) =>
              KINDS.map(
                ([part, name, kind]) =>
                  html`<${Head} column=${`${part}_last_${window}`} kind=${kind} sort=${sort}>${name}<//>`,
              ),
            )}
          </tr>
        </thead>
        <tbody role="rowgroup" style=${{ height: `${tall}px` }}>
          ${shown}
        </tbody>
      </table>
    </div>
  `;
}

/** The columns that are sorted upwards first: from A, or from the worst. */
const UPWARDS = ["store_id", "timezone", WORST_FIRST];

function Head({ column, kind, sort, children }) {
  const order = { [column]: "ascending", [`-${column}`]: "descending" }[sort];
  const upwards = order ? order === "descending" : UPWARDS.includes(column);
  return html`
    <th role="columnheader" scope="col" class=${kind} aria-sort=${order}>
      <button type="button" class="sort" onClick=${() => choose({ sort: `${upwards ? "" : "-"}${column}` })}>
        ${children}<span class="arrow" aria-hidden="true">${order && (order === "ascending" ? "▲" : "▼")}</span>
      </button>
    </th>
  `;
}

/** Two decimals, but never nothing of something. */
const amount = (value) => (value > 0 && value < 0.005 ? "< 0.01" : value.toFixed(2));

function Row({ at, top, store, days, report }) {
  const where = { "aria-rowindex": at + 3, style: { top: `${top}px` } };
  if (!store)
    return html`<tr role="row" class="coming" ...${where}><th role="rowheader" scope="row" class="id">…</th></tr>`;
  const { store_id: id, timezone, windows } = store;
  const of = Object.fromEntries(windows.map((window) => [window.window, window]));
  const { availability } = of.week;
  return html`
    <tr role="row" ...${where}>
      <th role="rowheader" scope="row" class="id"><a href=${storeOfReport(id, report)} title=${id}>${id}</a></th>
      <td role="cell" class="zone" title=${timezone}>${timezone}</td>
      <td role="cell" class=${availability !== null && availability < 0.9 ? "available bad" : "available"}>${percent(availability)}</td>
      <td role="cell" class="days">${days && html`<${Days} days=${days} />`}</td>
      ${WINDOWS.map(([window, , unit]) =>
        KINDS.map(([part, , kind]) => {
          const seconds = of[window][part];
          return html`<td role="cell" class=${seconds ? kind : `${kind} zero`}>${amount(seconds / unit)}</td>`;
        }),
      )}
    </tr>
  `;
}

/** Seven days as a picture: in each, from below, the parts up, unknown and down of its business time. */
function Days({ days }) {
  const told = days.map(({ availability, uptime, downtime, unknown }) =>
    availability === null ? (uptime + downtime + unknown ? "unknown" : "closed") : percent(availability),
  );
  return html`
    <span role="img" aria-label=${`Available day by day, oldest first: ${told.join(", ")}`}>
      ${days.map((day, i) => html`<i style=${{ background: parts(day) }} title=${`24 h to ${instant(day.to)}: ${told[i]}${day.downtime ? `, down ${span(day.downtime)}` : ""}`}></i>`)}
    </span>
  `;
}

function parts({ uptime, downtime, unknown }) {
  const whole = uptime + downtime + unknown;
  if (!whole) return "var(--closed)";
  const [up, known] = [uptime, uptime + unknown].map((seconds) => `${(100 * seconds) / whole}%`);
  return `linear-gradient(to top, var(--up) ${up}, var(--unknown) ${up} ${known}, var(--down) ${known})`;
}
