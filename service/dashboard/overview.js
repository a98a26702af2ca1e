// All stores at a glance: shares of business time, who was down most, what changed since the report before.

import { completedReports, getJson, startReport } from "./api.js";
import { ago, bytes, count, hours, instant, percent, points, span } from "./format.js";
import { Key, Loading, Shares, storeLink, useLoaded, Wrong } from "./parts.js";
import { reportTable } from "./report_csv.js";
import { html, useState } from "./htm_preact.js";

const WINDOW_NAMES = { hour: "Last hour", day: "Last 24 hours", week: "Last 7 days" };
/** Two files of more than this are compared when asked, not by themselves. */
const COMPARED_BYTES = 16_000_000;
const CHANGES_SHOWN = 8;

/** The two newest reports that have a summary: those of older versions have none. */
async function load(signal) {
  const found = [];
  for (const report of await completedReports(10)) {
    try {
      found.push([report, await getJson(`reports/${report.id}/summary`, { signal })]);
    } catch (problem) {
      if (problem.status !== 404) throw problem;
    }
    if (found.length === 2) break;
  }
  return { reports: found.map(([report]) => report), summaries: found.map(([, summary]) => summary) };
}

export function Overview() {
  const { data, error, reload } = useLoaded(load, []);
  if (error && !data) return html`<h1>Overview</h1><${Wrong} error=${error} retry=${reload} />`;
  if (!data) return html`<h1>Overview</h1><${Loading} />`;
  const { reports, summaries } = data;
  if (!reports.length) return html`<h1>Overview</h1><${Welcome} />`;
  const [newest, before] = summaries;
  return html`
    <div class="head">
      <div>
        <h1>Overview</h1>
        <p class="sub">
          <strong>${count(newest.stores)}</strong> ${newest.stores === 1 ? "store" : "stores"} as of${" "}
          <strong>${instant(newest.as_of)}</strong>; report made ${ago(reports[0].finished_at)}
        </p>
      </div>
      <a class="button" href="#/reports">Reports</a>
    </div>
    <div class="cards">
      ${newest.windows.map((window, i) => html`<${Window} window=${window} before=${before?.windows[i]} />`)}
    </div>
    <div class="two">
      <${Histogram} summary=${newest} />
      <${MostDowntime} summary=${newest} />
    </div>
    ${before
      ? html`<${Changes} reports=${reports} summaries=${summaries} />`
      : html`<section class="card"><h2>Since the report before</h2><p class="sub">There is only one report so far. The next will be compared with it.</p></section>`}
  `;
}

function Welcome() {
  const [error, setError] = useState(null);
  const start = () =>
    startReport({ include_unknown: true }).then(
      () => (location.hash = "#/reports"),
      (problem) => setError(problem),
    );
  return html`
    <section class="card welcome">
      <h2>No report yet</h2>
      <p>
        A report tells how long each store was up and down within its business hours, over the last hour, day and
        week.
      </p>
      <ol>
        <li><a href="#/feeds">Load feeds</a>: polls, business hours and time zones, as CSV.</li>
        <li>Start a report: <button type="button" class="main" onClick=${start}>Start report</button></li>
      </ol>
      ${error && html`<${Wrong} error=${error} />`}
    </section>
  `;
}

function Window({ window, before }) {
  const { business_time: whole, uptime, downtime, unknown } = window;
  const share = (part) => (whole ? part / whole : null);
  const told = [
    ["up", "Up", uptime],
    ["down", "Down", downtime],
    ["unknown", "Unknown", unknown],
  ];
  const change = before && window.availability !== null && before.availability !== null ? window.availability - before.availability : null;
  return html`
    <section class="card window">
      <h2>${WINDOW_NAMES[window.window]}</h2>
      <p class="big">
        ${percent(window.availability)}
        <span class="of">available</span>
        ${change !== null && html`<${Change} change=${change} />`}
      </p>
      <${Shares} up=${uptime} down=${downtime} unknown=${unknown} />
      <dl>
        ${told.map(
          ([kind, name, seconds]) => html`
            <div>
              <dt><${Key} kind=${kind}>${name}<//></dt>
              <dd><strong>${percent(share(seconds))}</strong><span>${hours(seconds)}</span></dd>
            </div>
          `,
        )}
      </dl>
    </section>
  `;
}

function Change({ change }) {
  const direction = Math.abs(change * 100) < 0.005 ? "same" : change > 0 ? "better" : "worse";
  const mark = { same: "", better: "▲", worse: "▼" }[direction];
  return html`
    <span class=${`change ${direction}`} title="percentage points, since the report before">
      ${mark && html`<span aria-hidden="true">${mark} </span>`}${points(change)} pp
    </span>
  `;
}

function Histogram({ summary }) {
  const { stores_by_availability: bins, stores_without_availability: without } = summary;
  const some = bins.slice(0, -1); // the last is of those that were up all the time
  const always = bins[some.length];
  const most = Math.max(1, ...some);
  const withDowntime = some.reduce((sum, stores) => sum + stores, 0);
  const range = (i) => `${(100 * i) / some.length} to ${(100 * (i + 1)) / some.length} %`;
  return html`
    <section class="card spread">
      <h2>Stores by availability, last 7 days</h2>
      <p class="sub">
        <strong>${count(always)}</strong> ${always === 1 ? "store was" : "stores were"} never
        down${without ? `; of ${count(without)} nothing is known` : ""}. The other <strong>${count(withDowntime)}</strong>:
      </p>
      <div class="histogram" aria-hidden="true">
        <div class="bars">
          ${some.map(
            (stores, i) => html`
              <div class="bar" title=${`${range(i)}: ${count(stores)} ${stores === 1 ? "store" : "stores"}`}>
                <i style=${{ height: stores ? `max(2px, ${(100 * stores) / most}%)` : 0 }}></i>
              </div>
            `,
          )}
        </div>
        <div class="axis"><span>0 %</span><span>25 %</span><span>50 %</span><span>75 %</span><span>100 %</span></div>
      </div>
      <details>
        <summary>As a table</summary>
        <table>
          <thead><tr><th scope="col">Availability</th><th scope="col" class="number">Stores</th></tr></thead>
          <tbody>
            ${some.map((stores, i) => stores > 0 && html`<tr><td>${range(i)}</td><td class="number">${count(stores)}</td></tr>`)}
            <tr><td>100 %</td><td class="number">${count(always)}</td></tr>
            <tr><td>nothing known</td><td class="number">${count(without)}</td></tr>
          </tbody>
        </table>
      </details>
    </section>
  `;
}

function MostDowntime({ summary }) {
  const stores = summary.most_downtime;
  const most = Math.max(1, ...stores.map((store) => store.downtime));
  return html`
    <section class="card">
      <h2>Most downtime, last 7 days</h2>
      ${stores.length
        ? html`
            <table class="ranked">
              <thead>
                <tr>
                  <th scope="col">Store</th><td class="meter" aria-hidden="true"></td>
                  <th scope="col" class="number">Down</th><th scope="col" class="number">Available</th>
                </tr>
              </thead>
              <tbody>
                ${stores.map(
                  (store) => html`
                    <tr>
                      <td class="id"><a href=${storeLink(store.store_id)}>${store.store_id}</a></td>
                      <td class="meter" aria-hidden="true"><i style=${{ width: `${(100 * store.downtime) / most}%` }}></i></td>
                      <td class="number">${span(store.downtime)}</td>
                      <td class="number">${percent(store.availability)}</td>
                    </tr>
                  `,
                )}
              </tbody>
            </table>
          `
        : html`<p class="sub">No store was down.</p>`}
      <p class="more"><a href="#/stores">All stores</a></p>
    </section>
  `;
}

function Changes({ reports, summaries }) {
  const [newest, before] = summaries;
  const size = reports.reduce((sum, report) => sum + (report.file_size || 0), 0);
  const [wanted, setWanted] = useState(size <= COMPARED_BYTES);
  return html`
    <section class="card">
      <h2>Since the report before</h2>
      <p class="sub">
        From ${instant(before.as_of)} to ${instant(newest.as_of)}${newest.stores === before.stores
          ? ""
          : `; ${count(Math.abs(newest.stores - before.stores))} stores ${newest.stores > before.stores ? "more" : "fewer"}`}
      </p>
      <div class="scroll" tabindex="0" role="region" aria-label="Shares of business time in both reports">
        <table>
          <thead>
            <tr>
              <th scope="col">Window</th><th scope="col" class="number">Up</th><th scope="col" class="number">Down</th>
              <th scope="col" class="number">Unknown</th><th scope="col" class="number">Available</th>
            </tr>
          </thead>
          <tbody>
            ${newest.windows.map((window, i) => html`<${WindowChange} now=${window} before=${before.windows[i]} />`)}
          </tbody>
        </table>
      </div>
      ${wanted
        ? html`<${StoreChanges} reports=${reports} />`
        : html`<p><button type="button" onClick=${() => setWanted(true)}>Compare store by store</button> reads ${bytes(size)}.</p>`}
    </section>
  `;
}

function WindowChange({ now, before }) {
  const cell = (part, good) => {
    const [a, b] = [now, before].map((window) => (window.business_time ? window[part] / window.business_time : null));
    return html`<td class="number">${percent(a)}<${Delta} change=${a === null || b === null ? null : a - b} good=${good} /></td>`;
  };
  const change = now.availability === null || before.availability === null ? null : now.availability - before.availability;
  return html`
    <tr>
      <th scope="row">${WINDOW_NAMES[now.window]}</th>
      ${cell("uptime", 1)}${cell("downtime", -1)}${cell("unknown", -1)}
      <td class="number">${percent(now.availability)}<${Delta} change=${change} good=${1} /></td>
    </tr>
  `;
}

function Delta({ change, good }) {
  if (change === null) return null;
  const direction = Math.abs(change * 100) < 0.005 ? "same" : change * good > 0 ? "better" : "worse";
  return html`<span class=${`delta ${direction}`}>${points(change)}</span>`;
}

async function compare(reports) {
  const [now, before] = await Promise.all(reports.map((report) => reportTable(report.id)));
  const rows = new Map(before.ids.map((id, row) => [id, row]));
  const changes = [];
  now.ids.forEach((id, row) => {
    const was = before.availability[rows.get(id)];
    const change = now.availability[row] - was;
    if (change) changes.push({ id, was, is: now.availability[row], change }); // neither 0 nor NaN
  });
  changes.sort((a, b) => a.change - b.change);
  const worse = changes.filter(({ change }) => change < 0);
  const better = changes.filter(({ change }) => change > 0).reverse();
  return { worse, better };
}

function StoreChanges({ reports }) {
  const { data, error, reload } = useLoaded(() => compare(reports), [reports[0].id, reports[1].id]);
  if (error) return html`<${Wrong} error=${error} retry=${reload} />`;
  if (!data) return html`<${Loading}>Comparing store by store…<//>`;
  return html`
    <div class="two inner">
      <${ChangeList} title="Got worse" kind="worse" list=${data.worse} />
      <${ChangeList} title="Got better" kind="better" list=${data.better} />
    </div>
  `;
}

const ChangeList = ({ title, kind, list }) => html`
  <div>
    <h3>${title} <span class="of">${count(list.length)} ${list.length === 1 ? "store" : "stores"}, availability of 7 days</span></h3>
    ${list.length > 0 &&
    html`
      <table class="ranked">
        <thead>
          <tr><th scope="col">Store</th><th scope="col" class="number">Was</th><th scope="col" class="number">Is</th><th scope="col" class="number">Points</th></tr>
        </thead>
        <tbody>
          ${list.slice(0, CHANGES_SHOWN).map(
            ({ id, was, is, change }) => html`
              <tr>
                <td class="id"><a href=${storeLink(id)}>${id}</a></td>
                <td class="number">${percent(was)}</td>
                <td class="number">${percent(is)}</td>
                <td class=${`number change ${kind}`}>${points(change)}</td>
              </tr>
            `,
          )}
        </tbody>
      </table>
    `}
  </div>
`;
