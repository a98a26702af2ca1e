// All stores at a glance: shares of business time, who was down most, what changed since the report before.

import { getJson, saveCsv } from "../api.js";
import { HeatMap, Trend } from "../charts.js";
import { ChosenHead, CONDITIONS, Make, NoReport, storeOfReport, useChosen } from "../chosen.js";
import { count, counted, hours, instant, percent, points, span, WINDOW_NAMES } from "../format.js";
import { html, useState } from "../htm_preact.js";
import { Available, Explain, Key, Loading, Shares, useLoaded, Wrong } from "../parts.js";
import { address } from "../view.js";

const LISTED = 8;

const windowOf = (windows, name) => windows.find(({ window }) => window === name);

/** How much a share changed, as far as both are known. */
const changeOf = (now, before) => (now === null || before === null ? null : now - before);

/** Which way a share went, as far as its change can be read; `good` is 1 where more is better, else -1. */
function directionOf(change, good) {
  if (points(change) === points(0)) return "same";
  return change * good > 0 ? "better" : "worse";
}

export function Overview({ query }) {
  const chosen = useChosen(query);
  const { data, error, reload } = chosen;
  if (error) return html`<h1>Overview</h1><${Wrong} error=${error} retry=${reload} />`;
  if (!data) return html`<h1>Overview</h1><${Loading} />`;
  if (!data.report) return html`<h1>Overview</h1><${NoReport} chosen=${chosen} />`;
  return html`
    <${ChosenHead} title="Overview" chosen=${chosen}>${counted(data.report.progress.stores_done, "store")}<//>
    <${OfReport} key=${data.report.id} report=${data.report} chosen=${chosen} />
  `;
}

function OfReport({ report, chosen }) {
  const {
    data: summary,
    error,
    reload,
  } = useLoaded((signal) => getJson(`reports/${report.id}/summary`, { signal }), [report.id]);
  const changes = useLoaded((signal) => loadChanges(report, signal), [report.id]);
  if (error) {
    return html`<${Wrong} error=${error} retry=${reload} /><p><${Make} onMade=${chosen.reload}>Make a new report<//></p>`;
  }
  if (!summary) return html`<${Loading} />`;
  const before = changes.data?.summary;
  return html`
    <${Triage} report=${report} summary=${summary} />
    <div class="cards">
      ${summary.windows.map((window, i) => html`<${Window} window=${window} before=${before?.windows[i]} />`)}
    </div>
    <div class="two">
      <${NewlyDown} report=${report} />
      <${MostDowntime} report=${report} summary=${summary} />
    </div>
    <${Changes} report=${report} summary=${summary} changes=${changes} />
    <div class="two">
      <${Trend} report=${report} />
      <${HeatMap} downByHour=${summary.down_by_hour} />
    </div>
    <${Histogram} summary=${summary} />
  `;
}

/** What changed since the report before of the same options, with that one's summary; nothing without one. */
async function loadChanges(report, signal) {
  const changes = await getJson(`reports/${report.id}/changes?limit=${LISTED}`, { signal });
  const summary = changes.before && (await getJson(`reports/${changes.before.report_id}/summary`, { signal }));
  return { ...changes, summary };
}

/** Who needs somebody now: each a number that leads to the stores that it counts. */
function Triage({ report, summary }) {
  const byCondition = new Map((summary.conditions || []).map((one) => [one.condition, one]));
  const all = windowOf(summary.windows, "week").downtime;
  const [error, setError] = useState(null);
  if (!byCondition.size) return null; // of an older version
  const download = (condition, query) => (event) => {
    event.preventDefault();
    saveCsv(`reports/${report.id}/stores?${query}`, `${condition}-${report.id}.csv`).then(
      () => setError(null),
      setError,
    );
  };
  return html`
    <section aria-label="What to do first">
      <ul class="triage">
        ${CONDITIONS.map(({ condition, name, meaning, sort }) => {
          const { stores, downtime } = byCondition.get(condition);
          const query = new URLSearchParams({ condition, sort });
          return html`
            <li class=${`card ${condition}`}>
              <a class="count" href=${address("stores", { report: report.chosen, condition, sort })}>
                <strong>${count(stores)}</strong><span>${name}</span>
              </a>
              <p class="sub">
                ${meaning}${condition === "down_all_week" && downtime > 0 && html`; <strong>${percent(downtime / all, 0)} of all downtime</strong>`}
                ${stores > 0 && html` · <a href=${`reports/${report.id}/stores?${query}`} onClick=${download(condition, query)} aria-label=${`${name} as CSV`}>CSV</a>`}
              </p>
            </li>
          `;
        })}
      </ul>
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
  const change = before ? changeOf(window.availability, before.availability) : null;
  return html`
    <section class="card window">
      <h2>${WINDOW_NAMES[window.window]}</h2>
      <${Available} ...${window}>${change !== null && html`<${Change} change=${change} />`}<//>
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
  const direction = directionOf(change, 1);
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
      <h2>Stores by availability, last 7 days<${Explain} about="available" /></h2>
      <p class="sub">
        <strong>${count(always)}</strong> ${always === 1 ? "store was" : "stores were"} never
        down${without ? `; of ${count(without)} nothing is known` : ""}. The other <strong>${count(withDowntime)}</strong>:
      </p>
      <div class="histogram" aria-hidden="true">
        <div class="bars">
          ${some.map(
            (stores, i) => html`
              <div class="bar" title=${`${range(i)}: ${counted(stores, "store")}`}>
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

const RankedHead = ({ names }) => html`
  <thead>
    <tr><th scope="col">Store</th>${names.map((name) => html`<th scope="col" class="number">${name}</th>`)}</tr>
  </thead>
`;

function NewlyDown({ report }) {
  const [{ condition, sort }] = CONDITIONS.filter((one) => one.condition === "newly_down");
  const path = `reports/${report.id}/stores?${new URLSearchParams({ condition, sort, limit: String(LISTED) })}`;
  const { data, error, reload } = useLoaded((signal) => getJson(path, { signal }), [path]);
  return html`
    <section class="card">
      <h2>Newly down, last 24 hours</h2>
      ${error && html`<${Wrong} error=${error} retry=${reload} />`}
      ${!data && !error && html`<${Loading} />`}
      ${
        data &&
        (data.total
          ? html`
            <table class="ranked">
              <thead>
                <tr><th scope="col">Store</th><th scope="col" class="zone">Time zone</th><th scope="col" class="number">Down</th></tr>
              </thead>
              <tbody>
                ${data.items.map(
                  ({ store_id: id, timezone, windows }) => html`
                    <tr>
                      <td class="id"><a href=${storeOfReport(id, report)}>${id}</a></td>
                      <td class="zone">${timezone}</td>
                      <td class="number">${span(windowOf(windows, "day").downtime)}</td>
                    </tr>
                  `,
                )}
              </tbody>
            </table>
            <p class="more"><a href=${address("stores", { report: report.chosen, condition, sort })}>${data.total > LISTED ? `All ${count(data.total)}` : "In the table"}</a></p>
          `
          : html`<p class="sub">No store that was never down in the 6 days before.</p>`)
      }
    </section>
  `;
}

/** Of more stores that were down all week than are listed, names say nothing: then it is those that were up at some time. */
function MostDowntime({ report, summary }) {
  const { most_downtime: most, conditions } = summary;
  const allWeek = conditions?.find(({ condition }) => condition === "down_all_week").stores ?? 0;
  return html`
    <section class="card">
      <h2>Most downtime, last 7 days</h2>
      ${
        most.length && allWeek >= most.length
          ? html`
            <p class="sub">
              <a href=${address("stores", { report: report.chosen, condition: "down_all_week" })}>${count(allWeek)} stores</a> were down all week. Least
              available of the others:
            </p>
            <${LeastAvailable} report=${report} after=${allWeek} most=${most.length} />
          `
          : most.length
            ? html`<${Downtimes} stores=${most} report=${report} />`
            : html`<p class="sub">No store was down.</p>`
      }
      <p class="more"><a href=${address("stores", { report: report.chosen, sort: "-downtime_last_week" })}>All stores</a></p>
    </section>
  `;
}

function LeastAvailable({ report, after, most }) {
  const query = new URLSearchParams({ sort: "availability_last_week", below: "1", offset: after, limit: most });
  const path = `reports/${report.id}/stores?${query}`;
  const { data, error, reload } = useLoaded((signal) => getJson(path, { signal }), [path]);
  if (error) return html`<${Wrong} error=${error} retry=${reload} />`;
  if (!data) return html`<${Loading} />`;
  if (!data.items.length) return html`<p>None was down at all.</p>`;
  const stores = data.items.map(({ store_id: id, windows }) => ({
    store_id: id,
    ...windowOf(windows, "week"),
  }));
  return html`<${Downtimes} stores=${stores} report=${report} />`;
}

function Downtimes({ stores, report }) {
  const most = Math.max(1, ...stores.map(({ downtime }) => downtime));
  const tie = stores.length > 1 && stores.every(({ downtime }) => downtime === most);
  return html`
    ${tie && html`<p class="sub">A tie: these were down equally long.</p>`}
    <table class="ranked">
      <thead>
        <tr>
          <th scope="col">Store</th><td class="meter" aria-hidden="true"></td>
          <th scope="col" class="number">Down</th><th scope="col" class="number">Available</th>
        </tr>
      </thead>
      <tbody>
        ${stores.map(
          ({ store_id: id, downtime, availability }) => html`
            <tr>
              <td class="id"><a href=${storeOfReport(id, report)}>${id}</a></td>
              <td class="meter" aria-hidden="true"><i style=${{ width: `${(100 * downtime) / most}%` }}></i></td>
              <td class="number">${span(downtime)}</td>
              <td class="number">${percent(availability)}</td>
            </tr>
          `,
        )}
      </tbody>
    </table>
  `;
}

function Changes({ report, summary, changes: { data, error, reload } }) {
  if (error || !data || !data.before) {
    return html`
      <section class="card">
        <h2>Since the report before</h2>
        ${error ? html`<${Wrong} error=${error} retry=${reload} />` : data ? html`<p class="sub">There is no earlier report with the same options. The next will be compared with this one.</p>` : html`<${Loading} />`}
      </section>
    `;
  }
  const { before, summary: then, worse, better } = data;
  const more = summary.stores - before.stores;
  return html`
    <section class="card">
      <h2>Since the report before</h2>
      <p class="sub">
        From ${instant(before.as_of)} to ${instant(summary.as_of)}${more ? `; ${count(Math.abs(more))} stores ${more > 0 ? "more" : "fewer"}` : ""}
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
            ${summary.windows.map((window, i) => html`<${WindowChange} now=${window} before=${then.windows[i]} />`)}
          </tbody>
        </table>
      </div>
      <div class="two inner">
        <${ChangeList} title="Got worse" kind="worse" changed=${worse} report=${report} />
        <${ChangeList} title="Got better" kind="better" changed=${better} report=${report} />
      </div>
    </section>
  `;
}

function WindowChange({ now, before }) {
  const cell = (part, good) => {
    const [a, b] = [now, before].map((window) => (window.business_time ? window[part] / window.business_time : null));
    return html`<td class="number">${percent(a)}<${Delta} change=${changeOf(a, b)} good=${good} /></td>`;
  };
  const change = changeOf(now.availability, before.availability);
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
  return html`<span class=${`delta ${directionOf(change, good)}`}>${points(change)}</span>`;
}

const ChangeList = ({ title, kind, changed, report }) => html`
  <div>
    <h3>${title} <span class="of">${counted(changed.stores, "store")}, availability of 7 days</span></h3>
    ${
      changed.items.length > 0 &&
      html`
      <table class="ranked">
        <${RankedHead} names=${["Was", "Is", "Points"]} />
        <tbody>
          ${changed.items.map(
            ({ store_id: id, was, is }) => html`
              <tr>
                <td class="id"><a href=${storeOfReport(id, report)}>${id}</a></td>
                <td class="number">${percent(was)}</td>
                <td class="number">${percent(is)}</td>
                <td class=${`number change ${kind}`}>${points(is - was)}</td>
              </tr>
            `,
          )}
        </tbody>
      </table>
    `
    }
  </div>
`;
