// All stores of the newest report, in a table of any length: only the rows in sight are drawn.

import { completedReports, pages, save } from "./api.js";
import { ago, count, instant, percent } from "./format.js";
import { Loading, storeLink, useLoaded, Wrong } from "./parts.js";
import { csvOf, reportTable } from "./report_csv.js";
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./htm_preact.js";

const ROW = 36; // pixels, as style.css has it
const MORE_ROWS = 8; // drawn above and below those in sight
const TALLEST = 8_000_000; // pixels; browsers draw no element of much more
const ZONE_PAGE = 1000;
const WINDOWS = [
  ["week", "Last 7 days, hours"],
  ["day", "Last 24 hours, hours"],
  ["hour", "Last hour, minutes"],
];
const KINDS = [
  ["downtime", "Down"],
  ["unknown", "Unknown"],
  ["uptime", "Up"],
];
const WORST = [
  ["", "Any availability"],
  ["0.99999", "With downtime"],
  ["0.999", "Below 99.9 %"],
  ["0.99", "Below 99 %"],
  ["0.95", "Below 95 %"],
  ["0.9", "Below 90 %"],
  ["0.5", "Below 50 %"],
  ["none", "Nothing known"],
];

/** What was searched, sorted and scrolled to last, for whoever comes back from a store. */
const view = { search: "", zone: "", worst: "", sort: ["availability", 1], top: 0 };

async function load() {
  const [report] = await completedReports(1);
  return { report, table: report && (await reportTable(report.id)) };
}

export function Stores() {
  const { data, error, reload } = useLoaded(load, []);
  if (error) return html`<h1>Stores</h1><${Wrong} error=${error} retry=${reload} />`;
  if (!data) return html`<h1>Stores</h1><${Loading}>Reading the newest report…<//>`;
  if (!data.report) {
    return html`<h1>Stores</h1><p>The table shows the newest report, and there is none yet. <a href="#/reports">Start a report</a>.</p>`;
  }
  return html`<${Table} report=${data.report} table=${data.table} />`;
}

/** The zone of each row, as a place in `names`, or -1 as long as it is not known. */
function useZones(table) {
  const [zones, setZones] = useState(() => table.zones || { of: new Int16Array(table.ids.length).fill(-1), names: [], done: 0 });
  useEffect(() => {
    if (zones.complete) return undefined;
    const abort = new AbortController();
    loadZones(table, abort.signal, setZones).catch(() => {}); // a table without zones is one too
    return () => abort.abort();
  }, [table]);
  return zones;
}

async function loadZones(table, signal, tell) {
  const of = new Int16Array(table.ids.length).fill(-1);
  const names = [];
  const place = new Map();
  let rows = null;
  let row = 0; // both lists have the order of ids, so the next store is mostly the next row
  let done = 0;
  let told = performance.now();
  for await (const { items } of pages("stores", ZONE_PAGE, { signal })) {
    for (const { store_id: id, effective_timezone: zone } of items) {
      if (!place.has(zone)) place.set(zone, names.push(zone) - 1);
      if (table.ids[row] !== id) {
        rows ??= new Map(table.ids.map((known, at) => [known, at]));
        if (!rows.has(id)) continue;
        row = rows.get(id);
      }
      of[row] = place.get(zone);
      row += 1;
    }
    done += items.length;
    if (performance.now() - told > 500) {
      told = performance.now();
      tell({ of, names: [...names], done });
    }
  }
  table.zones = { of, names, done, complete: true };
  tell(table.zones);
}

const columnsOf = (table) =>
  WINDOWS.map(([window, title]) => [
    title,
    KINDS.map(([kind, name]) => [`${kind}_last_${window}`, name]).filter(([column]) => column in table.columns),
  ]);

function Table({ report, table }) {
  const [search, setSearch] = useState(view.search);
  const [zone, setZone] = useState(view.zone);
  const [worst, setWorst] = useState(view.worst);
  const [sort, setSort] = useState(view.sort);
  const zones = useZones(table);
  Object.assign(view, { search, zone, worst, sort });

  const zonesMatter = zone || sort[0] === "zone" ? zones : null;
  const rows = useMemo(() => {
    const found = filtered(table, search, zone, worst, zones);
    return sorted(found, table, sort, zones);
  }, [table, search, zone, worst, sort, zonesMatter]);

  const sortBy = (column) => {
    const ascendingFirst = ["store_id", "zone", "availability"].includes(column);
    setSort(sort[0] === column ? [column, -sort[1]] : [column, ascendingFirst ? 1 : -1]);
  };
  const all = table.ids.length;

  return html`
    <div class="head">
      <div>
        <h1>Stores</h1>
        <p class="sub">As of <strong>${instant(report.as_of)}</strong>; report made ${ago(report.finished_at)}</p>
      </div>
      <button type="button" onClick=${() => save(`stores-${report.id}.csv`, csvOf(table, rows))}>
        Download ${rows.length === all ? "all" : `these ${count(rows.length)}`} as CSV
      </button>
    </div>
    <form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}>
      <label>Search<input type="search" value=${search} placeholder="Part of a store's id" onInput=${(event) => setSearch(event.target.value)} /></label>
      <label>
        Time zone
        <select value=${zone} onChange=${(event) => setZone(event.target.value)}>
          <option value="">${zones.complete ? "Any zone" : `Any zone (loading: ${count(zones.done)} stores)`}</option>
          ${[...zones.names].sort().map((name) => html`<option value=${name}>${name}</option>`)}
        </select>
      </label>
      <label>
        Last 7 days
        <select value=${worst} onChange=${(event) => setWorst(event.target.value)}>
          ${WORST.map(([value, name]) => html`<option value=${value}>${name}</option>`)}
        </select>
      </label>
      <p class="sub" role="status">${count(rows.length)} of ${count(all)} stores</p>
    </form>
    <${Rows} table=${table} rows=${rows} zones=${zones} sort=${sort} sortBy=${sortBy} />
  `;
}

function filtered(table, search, zone, worst, zones) {
  const { ids, availability } = table;
  const wanted = search.trim().toLowerCase();
  const place = zones.names.indexOf(zone);
  const most = Number(worst);
  const rows = new Uint32Array(ids.length);
  let found = 0;
  for (let row = 0; row < ids.length; row += 1) {
    if (zone && zones.of[row] !== place) continue;
    if (worst === "none" ? !Number.isNaN(availability[row]) : worst && !(availability[row] < most)) continue;
    if (wanted && !ids[row].toLowerCase().includes(wanted)) continue;
    rows[found] = row;
    found += 1;
  }
  return rows.subarray(0, found);
}

/** The rows in another order; equal ones by id, and those without a value last in either direction. */
function sorted(rows, table, [column, direction], zones) {
  if (column === "store_id") return direction === 1 ? rows : rows.slice().reverse();
  let value = column === "availability" ? table.availability : table.columns[column];
  if (column === "zone") {
    const rank = new Map([...zones.names].sort().map((name, i) => [name, i]));
    value = Float64Array.from(zones.of, (place) => (place < 0 ? NaN : rank.get(zones.names[place])));
  }
  if (!value) return rows; // a column of another report
  return rows.slice().sort((a, b) => {
    const [x, y] = [value[a], value[b]];
    if (x === y) return a - b;
    if (x !== x || y !== y) return (x !== x) - (y !== y) || a - b;
    return (x - y) * direction;
  });
}

function Rows({ table, rows, zones, sort, sortBy }) {
  const box = useRef();
  const [{ top, height }, setSeen] = useState({ top: view.top, height: 600 });
  const groups = useMemo(() => columnsOf(table), [table]);

  const whole = rows.length * ROW;
  const tall = Math.min(whole, TALLEST);
  const inSight = Math.ceil(height / ROW);
  // Of more rows than an element may be tall, scrolling passes several at a time.
  const stretch = tall > height ? (whole - height) / (tall - height) : 1;
  const first = Math.max(0, Math.min(Math.floor((top * stretch) / ROW) - MORE_ROWS, rows.length - inSight));
  const last = Math.min(rows.length, first + inSight + 2 * MORE_ROWS);
  const above = Math.max(0, Math.min(first * ROW - top * (stretch - 1), tall - (last - first) * ROW));
  const moved = Math.round(above - first * ROW);

  const look = () => {
    const { scrollTop, clientHeight } = box.current;
    view.top = scrollTop;
    setSeen((before) => {
      const same = stretch === 1 && Math.floor(scrollTop / ROW) === Math.floor(before.top / ROW);
      return same && before.height === clientHeight ? before : { top: scrollTop, height: clientHeight };
    });
  };
  useLayoutEffect(() => {
    box.current.scrollTop = view.top;
    look();
    const watching = new ResizeObserver(look);
    watching.observe(box.current);
    return () => watching.disconnect();
  }, []);
  const drawn = useRef(rows);
  useLayoutEffect(() => {
    if (drawn.current !== rows) box.current.scrollTop = 0; // another order: from its begin
    drawn.current = rows;
    look();
  }, [rows]);

  // Rows that stay in sight are the same objects again, which Preact passes over.
  const drawnRows = useMemo(() => new Map(), [rows, zones, moved]);
  for (const at of drawnRows.keys()) if (at < first || at >= last) drawnRows.delete(at);
  const shown = [];
  for (let at = first; at < last; at += 1) {
    if (!drawnRows.has(at)) {
      const row = rows[at];
      const zone = zones.names[zones.of[row]];
      drawnRows.set(at, html`<${Row} key=${at} at=${at} top=${at * ROW + moved} row=${row} table=${table} groups=${groups} zone=${zone} />`);
    }
    shown.push(drawnRows.get(at));
  }
  const head = { sort, sortBy };
  // Laid out by flex, not as a table: a row that comes into sight then moves no other. So roles are said.
  return html`
    <div class="scroll card grid" ref=${box} onScroll=${look} tabindex="0" role="region" aria-label="Table of stores">
      <table role="table" aria-rowcount=${rows.length + 2}>
        <thead role="rowgroup">
          <tr role="row">
            <td role="cell" class="id"></td><td role="cell" class="zone"></td>
            <th role="columnheader" scope="col" class="available">Last 7 days</th>
            ${groups.map(
              ([title, columns]) =>
                html`<th role="columnheader" scope="colgroup" class=${columns.length === 3 ? "group" : "group narrow"} aria-colspan=${columns.length}>${title}</th>`,
            )}
          </tr>
          <tr role="row">
            <${Head} column="store_id" kind="id" ...${head}>Store<//>
            <${Head} column="zone" kind="zone" ...${head}>Time zone<//>
            <${Head} column="availability" kind="available" ...${head}>Available<//>
            ${groups.map(([, columns]) => columns.map(([column, name]) => html`<${Head} column=${column} kind=${kindOf(column)} ...${head}>${name}<//>`))}
          </tr>
        </thead>
        <tbody role="rowgroup" style=${{ height: `${tall}px` }}>
          ${shown}
        </tbody>
      </table>
    </div>
  `;
}

const kindOf = (column) => (column.startsWith("unknown") ? "unknown-value" : "value");

function Head({ column, kind, sort, sortBy, children }) {
  const sortedBy = sort[0] === column;
  const order = sortedBy ? (sort[1] === 1 ? "ascending" : "descending") : null;
  return html`
    <th role="columnheader" scope="col" class=${kind} aria-sort=${order}>
      <button type="button" class="sort" onClick=${() => sortBy(column)}>
        ${children}<span class="arrow" aria-hidden="true">${sortedBy && (sort[1] === 1 ? "▲" : "▼")}</span>
      </button>
    </th>
  `;
}

function Row({ at, top, row, table, groups, zone }) {
  const id = table.ids[row];
  const available = table.availability[row];
  return html`
    <tr role="row" aria-rowindex=${at + 3} style=${{ top: `${top}px` }}>
      <th role="rowheader" scope="row" class="id"><a href=${storeLink(id)} title=${id}>${id}</a></th>
      <td role="cell" class="zone">${zone ?? "…"}</td>
      <td role="cell" class=${available < 0.9 ? "available bad" : "available"}>${percent(available)}</td>
      ${groups.map(([, columns]) =>
        columns.map(([column]) => {
          const value = table.columns[column][row];
          return html`<td role="cell" class=${value ? kindOf(column) : `${kindOf(column)} zero`}>${(value / 100).toFixed(2)}</td>`;
        }),
      )}
    </tr>
  `;
}
