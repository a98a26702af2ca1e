// Feeds: load files, see what became of them, and what the service knows.

import { getJson } from "../api.js";
import { bytes, count, counted, instant, percent, span } from "../format.js";
import { html, useEffect, useState } from "../htm_preact.js";
import { Loading, useLoaded, Wrong } from "../parts.js";
import { canBeCancelled, cancel, upload, useUploads } from "../uploads.js";

const HISTORY_SHOWN = 10;
const words = (feed) => (feed === "timezones" ? "time zones" : feed.replaceAll("_", " "));
const title = (feed) => words(feed).replace(/^./, (letter) => letter.toUpperCase());

export function Feeds() {
  const uploads = useUploads();
  const finished = uploads.filter(({ state }) => state === "loaded" || state === "refused").length;
  const { data: known, error, reload } = useLoaded((signal) => getJson("feeds", { signal }), [finished]);
  return html`
    <h1>Feeds</h1>
    ${known && !known.stores && !uploads.length && html`<${Nothing} zone=${known.default_timezone} />`}
    <${Drop} feeds=${known?.feeds || []} />
    <p class="hidden" role="status">${uploads.length > 0 && told(uploads[0])}</p>
    ${uploads.map((one) => html`<${Upload} key=${one.number} upload=${one} />`)}
    ${error && html`<${Wrong} error=${error} retry=${reload} />`}
    ${!known && !error && html`<${Loading} />`}
    ${known && html`<${State} known=${known} /><${Loads} loads=${known.loads} /><${Refusals} refusals=${known.refusals} />`}
  `;
}

/** How an upload ended, in a sentence; empty: it has not. */
function told({ name, state, loaded, problem }) {
  if (state === "loaded") return `${name}: loaded, ${counted(loaded.rows, "row")}.`;
  if (state === "refused") return `${name}: not loaded. ${problem.message}`;
  return state === "cancelled" ? `${name}: cancelled.` : "";
}

const Nothing = ({ zone }) => html`
  <section class="card welcome">
    <h2>Nothing is loaded yet</h2>
    <p>Begin with the time zones and the business hours, if there are any: a store without is in ${zone}, and always open. Then load the polls. With them a report can be made.</p>
  </section>
`;

function Drop({ feeds }) {
  const [over, setOver] = useState(false);
  useEffect(() => {
    const listeners = {
      dragover: (event) => setOver(event.dataTransfer?.types.includes("Files")),
      dragleave: (event) => event.relatedTarget || setOver(false),
      drop: () => setOver(false),
    };
    for (const [name, listener] of Object.entries(listeners)) addEventListener(name, listener);
    return () => {
      for (const [name, listener] of Object.entries(listeners)) removeEventListener(name, listener);
    };
  }, []);
  const choose = ({ target }) => {
    upload([...target.files]);
    target.value = ""; // the same file may be chosen again
  };
  return html`
    <div class=${`card drop ${over ? "over" : ""}`}>
      <p><strong>Drop CSV files anywhere on the page</strong>, plain, gzip or zstd, or choose them:</p>
      <label class="file">
        <span>Choose files</span>
        <input
          type="file"
          multiple
          accept=".csv,.gz,.zst,text/csv,application/gzip,application/zstd"
          onChange=${choose}
        />
      </label>
      <ul class="headers sub">
        ${feeds.map(
          ({ feed, columns }) =>
            html`<li>${words(feed)}: <code>${columns.map(({ name, other_names: others }) => [name, ...others].join(" or ")).join(", ")}</code></li>`,
        )}
      </ul>
      <p class="sub">The first line names the columns, in any order, and so tells which feed it is; other columns may be there. A file is loaded as a whole or not at all; the same one again changes nothing.</p>
    </div>
  `;
}

function Upload({ upload: one }) {
  const { number, name, size, state, share, loaded, problem } = one;
  const kind = loaded?.feed === "polls" ? "polls" : "stores";
  return html`
    <section class="card feed" aria-label=${name}>
      <div class="foot">
        <h2>${name} <span class="of">${bytes(size)}${loaded ? ` of ${words(loaded.feed)}` : ""}</span></h2>
        ${canBeCancelled(one) && html`<button type="button" class="quiet" onClick=${() => cancel(number)} aria-label=${`Cancel ${name}`}>Cancel</button>`}
      </div>
      ${state === "waiting" && html`<p class="sub">waiting…</p>`}
      ${
        (state === "sending" || state === "storing") &&
        html`
        <progress max="1" value=${state === "sending" ? share : null} aria-label=${`Progress of ${name}`}></progress>
        <p class="sub">${state === "sending" ? `${percent(share, 0)} sent` : "checking and storing…"}</p>
      `
      }
      ${state === "cancelled" && html`<p><span class="badge">Cancelled</span> Nothing of it was loaded.</p>`}
      ${
        state === "loaded" &&
        html`
        <p><span class="badge completed">Loaded</span> ${counted(loaded.rows, "row")}</p>
        <dl class="counts">
          <div><dt>new ${kind}</dt><dd>${count(loaded.new)}</dd></div>
          <div><dt>replaced</dt><dd>${count(loaded.replaced)}</dd></div>
          <div><dt>unchanged</dt><dd>${count(loaded.unchanged)}</dd></div>
        </dl>
      `
      }
      ${state === "refused" && html`<${Refused} problem=${problem} />`}
    </section>
  `;
}

function Refused({ problem }) {
  const { errors, count: all } = problem;
  if (problem.type === "feed-not-recognised") {
    return html`
      <div role="alert"><p><span class="badge failed">Not loaded</span> ${problem.message}</p></div>
      <ul class="sub">${errors.map((error) => html`<li>${error.problem}</li>`)}</ul>
    `;
  }
  return html`
    <div role="alert">
      <p><span class="badge failed">Not loaded</span> ${errors.length ? `${count(all)} ${all === 1 ? "thing is" : "things are"} wrong with it, and nothing of it was loaded.` : problem.message}</p>
    </div>
    ${
      errors.length > 0 &&
      html`
      <div class="scroll" tabindex="0" role="region" aria-label="Bad rows">
        <table>
          <thead>
            <tr><th scope="col" class="number">Line</th><th scope="col">Column</th><th scope="col">Value</th><th scope="col">What is wrong</th></tr>
          </thead>
          <tbody>
            ${errors.map(
              (error) => html`
                <tr>
                  <td class="number">${error.line ?? "–"}</td><td>${error.column ?? error.field ?? "–"}</td>
                  <td><code>${error.value ?? ""}</code></td><td>${error.problem}</td>
                </tr>
              `,
            )}
          </tbody>
        </table>
      </div>
      ${all > errors.length && html`<p class="sub">The first ${errors.length} of ${count(all)} are shown.</p>`}
    `
    }
  `;
}

/** How much there is, and how new it is. */
function State({ known }) {
  const { stores, polls, newest_poll: newest, newest_poll_age: age } = known;
  const figures = [
    ["stores", count(stores)],
    ["polls", known.polls_exact ? count(polls) : `about ${count(polls)}`],
    [
      "newest poll",
      newest ? instant(newest) : "none",
      newest && (age < 0 ? `${span(-age)} from now` : `${span(age)} ago`),
    ],
    ["stores without business hours", count(known.stores_without_business_hours), "always open"],
    ["stores without time zone", count(known.stores_without_timezone), `in ${known.default_timezone}`],
  ];
  return html`
    <section class="card known">
      <h2>What is known</h2>
      <dl class="counts">
        ${figures.map(([name, value, more]) => html`<div><dt>${name}</dt><dd>${value}${more && html` <span class="sub">${more}</span>`}</dd></div>`)}
      </dl>
    </section>
  `;
}

const sender = ({ command, api_key: name }) =>
  command ? html`<code>storewatch ingest</code>` : (name ?? "without a key");

const Loads = ({ loads }) => html`
  <${History} name="Last loads" list=${loads} none="No file was loaded yet." columns=${["New", "Replaced", "Unchanged"]}>
    ${({ loaded }) => ["new", "replaced", "unchanged"].map((name) => html`<td class="number">${count(loaded[name])}</td>`)}
  <//>
`;

const Refusals = ({ refusals }) => html`
  <${History} name="Last refusals" list=${refusals} none="No file was refused." columns=${["What is wrong"]}>
    ${({ fault, faults }) => html`<td class="fault">${fault}${faults > 1 && html` <span class="sub">and ${count(faults - 1)} more</span>`}</td>`}
  <//>
`;

/** A table of what became of files, the newest first; the child makes the cells of the columns. */
function History({ name, list, none, columns, children: cells }) {
  return html`
    <section class="card">
      <h2>${name}</h2>
      ${!list.length && html`<p class="sub">${none}</p>`}
      ${
        list.length > 0 &&
        html`
        <div class="scroll" tabindex="0" role="region" aria-label=${name}>
          <table class="history">
            <thead>
              <tr>
                <th scope="col">When</th><th scope="col">Feed</th>
                ${columns.map((column) => html`<th scope="col" class=${columns.length > 1 ? "number" : ""}>${column}</th>`)}
                <th scope="col">Sent by</th>
              </tr>
            </thead>
            <tbody>
              ${list.slice(0, HISTORY_SHOWN).map(
                (one) => html`
                  <tr>
                    <th scope="row" class="nowrap">${instant(one.at)}</th>
                    <td class="nowrap">${one.feed ? title(one.feed) : "not told"}</td>
                    ${cells(one)}
                    <td>${sender(one)}</td>
                  </tr>
                `,
              )}
            </tbody>
          </table>
        </div>
        ${list.length > HISTORY_SHOWN && html`<p class="sub">The last ${HISTORY_SHOWN} are shown. Rows sent as JSON are not among them.</p>`}
      `
      }
    </section>
  `;
}
