// Feeds: drop CSV files, see them load, see what was loaded or which rows are wrong.

import { key, keyHeader, keyHelps, Problem } from "./api.js";
import { bytes, count, percent } from "./format.js";
import { html, useRef, useState } from "./htm_preact.js";

const FEEDS = {
  "store_id,status,timestamp_utc": ["polls", "polls", "polls"],
  "store_id,day,start_time_local,end_time_local": ["business hours", "business-hours", "stores"],
  "store_id,timezone": ["time zones", "timezones", "stores"],
  "store_id,timezone_str": ["time zones", "timezones", "stores"],
};

/** Which feed a file is, by its header: also inside gzip, whose first bytes are 1f 8b. */
async function feedOf(file) {
  const start = new Uint8Array(await file.slice(0, 2).arrayBuffer());
  let stream = file.stream();
  if (start[0] === 0x1f && start[1] === 0x8b) stream = stream.pipeThrough(new DecompressionStream("gzip"));
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (!text.includes("\n") && text.length < 10_000) {
    const { value, done } = await reader.read();
    if (done) break;
    text += value;
  }
  reader.cancel().catch(() => {});
  const names = text
    .replace(/^\ufeff/, "")
    .split(/\r?\n/, 1)[0]
    .split(",")
    .map((name) => name.trim().replace(/^"(.*)"$/, "$1").toLowerCase());
  const given = names.sort().join();
  const found = Object.keys(FEEDS).find((header) => header.split(",").sort().join() === given);
  if (!found) {
    throw new Problem(0, {
      detail: `Its first line is none of a feed's: ${Object.keys(FEEDS).join(" · ")}.`,
    });
  }
  return FEEDS[found];
}

/** Send a file; by XMLHttpRequest, because fetch does not tell how far it is. */
async function send(path, file, onProgress) {
  for (;;) {
    const used = key();
    const [status, text] = await new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open("POST", path);
      request.setRequestHeader("Content-Type", "text/csv");
      for (const [name, value] of Object.entries(keyHeader())) request.setRequestHeader(name, value);
      request.upload.onprogress = ({ loaded, total }) => onProgress(loaded / (total || 1));
      request.onload = () => resolve([request.status, request.responseText]);
      request.onerror = () => reject(new Problem(0, { detail: "The connection broke before the file was through: nothing was loaded." }));
      request.send(file);
    });
    let told = {};
    try {
      told = JSON.parse(text);
    } catch {
      // its status has to do
    }
    if (status >= 200 && status < 300) return told;
    const problem = new Problem(status, told);
    if (!(await keyHelps(status, problem, used))) throw problem;
  }
}

export function Feeds() {
  const [files, setFiles] = useState([]);
  const [over, setOver] = useState(false);
  const queue = useRef(Promise.resolve());
  const next = useRef(0);

  const change = (number, more) =>
    setFiles((before) => before.map((one) => (one.number === number ? { ...one, ...more } : one)));

  const load = async (number, file) => {
    try {
      const [feed, path, counted] = await feedOf(file);
      change(number, { state: "sending", feed, counted, share: 0 });
      change(number, { state: "loaded", loaded: await send(path, file, (share) => change(number, { share })) });
    } catch (problem) {
      change(number, { state: "refused", problem });
    }
  };

  const add = (list) => {
    for (const file of list) {
      const number = next.current++;
      setFiles((before) => [{ number, name: file.name, size: file.size, state: "waiting" }, ...before]);
      queue.current = queue.current.then(() => load(number, file)); // one after the other
    }
  };

  const drop = (event) => {
    event.preventDefault();
    setOver(false);
    add(event.dataTransfer.files);
  };

  return html`
    <h1>Feeds</h1>
    <div
      class=${`card drop ${over ? "over" : ""}`}
      onDragOver=${(event) => (event.preventDefault(), setOver(true))}
      onDragLeave=${() => setOver(false)}
      onDrop=${drop}
    >
      <p><strong>Drop CSV files here</strong>, plain or gzip, or choose them:</p>
      <label class="file">
        <span>Choose files</span>
        <input
          type="file"
          multiple
          accept=".csv,.gz,text/csv,application/gzip"
          onChange=${(event) => (add([...event.target.files]), (event.target.value = ""))}
        />
      </label>
      <ul class="headers sub">
        ${Object.entries(FEEDS).map(([header, [feed]]) => html`<li>${feed}: <code>${header}</code></li>`)}
      </ul>
      <p class="sub">The first line tells which feed it is. A file is loaded as a whole or not at all; the same one again changes nothing.</p>
    </div>
    <div aria-live="polite">${files.map((file) => html`<${File} key=${file.number} file=${file} />`)}</div>
  `;
}

function File({ file }) {
  const { name, size, state, feed, share, loaded, problem, counted } = file;
  return html`
    <section class="card feed">
      <h2>${name} <span class="of">${bytes(size)}${feed ? ` of ${feed}` : ""}</span></h2>
      ${state === "waiting" && html`<p class="sub">waiting…</p>`}
      ${state === "sending" &&
      html`
        <progress max="1" value=${share < 1 ? share : null} aria-label=${`Progress of ${name}`}></progress>
        <p class="sub">${share < 1 ? `${percent(share, 0)} sent` : "checking and storing…"}</p>
      `}
      ${state === "loaded" &&
      html`
        <p><span class="badge completed">Loaded</span> ${count(loaded.rows)} ${loaded.rows === 1 ? "row" : "rows"}</p>
        <dl class="counts">
          <div><dt>new ${counted}</dt><dd>${count(loaded.new)}</dd></div>
          <div><dt>replaced</dt><dd>${count(loaded.replaced)}</dd></div>
          <div><dt>unchanged</dt><dd>${count(loaded.unchanged)}</dd></div>
        </dl>
      `}
      ${state === "refused" && html`<${Refused} problem=${problem} />`}
    </section>
  `;
}

function Refused({ problem }) {
  const { errors, count: all } = problem;
  return html`
    <div role="alert">
      <p><span class="badge failed">Not loaded</span> ${errors.length ? `${count(all)} ${all === 1 ? "thing is" : "things are"} wrong with it, and nothing of it was loaded.` : problem.message}</p>
    </div>
    ${errors.length > 0 &&
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
    `}
  `;
}
