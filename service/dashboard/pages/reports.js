// Reports: start one, see it run, fetch, cancel or delete it.

import { ended, fetched, follow, getJson, key, newestReports, saveCsv, startReport } from "../api.js";
import { DEFAULT_OPTIONS, optionsOf } from "../chosen.js";
import { bytes, count, instant, percent, span } from "../format.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "../htm_preact.js";
import { Confirm, Loading, useLoaded, Wrong } from "../parts.js";
import { address } from "../view.js";

const SHOWN = 100;

/** Those of some reports that are not among others. */
const without = (reports, others) => reports.filter(({ id }) => !others.some((one) => one.id === id));

export function Reports() {
  const { data, error, reload } = useLoaded((signal) => newestReports(SHOWN, { signal }), []);
  const [reports, setReports] = useState(null);
  const [said, setSaid] = useState("");
  const [asking, setAsking] = useState(null); // the report that is to be deleted, or not
  const table = useRef();
  useEffect(() => {
    // One that was started before the list came need not be in it.
    if (data) setReports((before) => [...without(before ?? [], data), ...data]);
  }, [data]);

  const change = (report) =>
    setReports((listed) => {
      const before = listed ?? [];
      const known = before.some(({ id }) => id === report.id);
      return known ? before.map((one) => (one.id === report.id ? report : one)) : [report, ...before];
    });
  /** Take a report out of the table; who was at it goes on at the one that is in its place then. */
  const remove = (id) => {
    const rows = [...table.current.tBodies[0].rows];
    const at = reports.findIndex((report) => report.id === id);
    const next = rows[at + 1] || rows[at - 1];
    if (rows[at]?.contains(document.activeElement)) {
      (next?.querySelector("button:not([hidden])") || document.getElementById("main")).focus();
    }
    setReports((before) => before.filter((report) => report.id !== id));
  };

  const started = (report) => {
    setSaid("Report started.");
    change(report);
  };

  return html`
    <h1>Reports</h1>
    <${Start} onStarted=${started} />
    <p class="said sub" role="status">${said}</p>
    ${error && html`<${Wrong} error=${error} retry=${reload} />`}
    ${!reports && !error && html`<${Loading} />`}
    ${reports && !reports.length && html`<p class="sub">No report yet.</p>`}
    ${
      reports &&
      reports.length > 0 &&
      html`
      <div class="scroll card" tabindex="0" role="region" aria-label="History of reports">
        <table class="reports" ref=${table}>
          <thead>
            <tr>
              <th scope="col">Asked for</th><th scope="col">State</th><th scope="col">As of</th>
              <th scope="col" class="number">Took</th><th scope="col" class="number">Rows</th><th scope="col">File</th>
              <th scope="col"><span class="hidden">What to do</span></th>
            </tr>
          </thead>
          <tbody>
            ${reports.map(
              (report) =>
                html`<${Report} key=${report.id} report=${report} onChange=${change} onDelete=${setAsking} onSay=${setSaid} />`,
            )}
          </tbody>
        </table>
      </div>
    `
    }
    ${asking && html`<${Delete} key=${asking.id} report=${asking} onClose=${() => setAsking(null)} onRemove=${remove} onSay=${setSaid} />`}
  `;
}

function Start({ onStarted }) {
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const start = async (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    /** @type {{ [name: string]: unknown }} */
    const options = {
      include_unknown: form.has("include_unknown"),
      include_excluded: form.has("include_excluded"),
      interpolation: form.get("interpolation"),
      max_gap: String(form.get("max_gap")).trim(),
    };
    const windows = String(form.get("windows"))
      .split(/[\s,]+/)
      .filter(Boolean);
    if (windows.length) options.windows = windows;
    const asOf = String(form.get("as_of")); // browsers leave out the seconds of a full minute
    if (asOf) options.as_of = `${/T\d\d:\d\d$/.test(asOf) ? `${asOf}:00` : asOf}Z`;
    setBusy(true);
    setError(null);
    try {
      onStarted(await startReport(options));
    } catch (problem) {
      setError(problem);
    }
    setBusy(false);
  };
  return html`
    <form class="card start" onSubmit=${start}>
      <div class="start-line">
        <button class="main" disabled=${busy}>Start report</button>
        <p class="sub">How long each store was up and down within its business hours: the last hour, day and week.</p>
      </div>
      <details>
        <summary>Options</summary>
        <div class="fields">
          <label>As of (UTC)<input type="datetime-local" name="as_of" step="1" /><span class="hint">Empty: the newest poll.</span></label>
          <label>
            Between two polls
            <select name="interpolation">
              <option value="nearest">the nearest one counts</option>
              <option value="previous">the previous one counts</option>
            </select>
          </label>
          <label>A poll speaks for up to<input name="max_gap" defaultValue=${DEFAULT_OPTIONS.max_gap} required pattern="([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?" /><span class="hint">1m to 31d.</span></label>
          <label>Windows<input name="windows" placeholder="previous-month, days:previous-month" maxlength="2000" /><span class="hint">Empty: the last hour, day and week.</span></label>
          <label class="check"><input type="checkbox" name="include_unknown" defaultChecked />Columns of unknown time</label>
          <label class="check"><input type="checkbox" name="include_excluded" />Columns of excluded time</label>
        </div>
      </details>
      ${error && html`<${Wrong} error=${error} />`}
    </form>
  `;
}

/** Keep a report current for as long as it is queued or running. */
function useLive(report, onChange, onSay) {
  const [state, setState] = useState("live");
  const over = ended(report);
  useEffect(() => {
    if (over) return undefined;
    const abort = new AbortController();
    const look = async () => {
      const now = await getJson(`reports/${report.id}`, { signal: abort.signal });
      onChange(now);
      if (ended(now)) {
        onSay(`Report ${now.status}.`);
        abort.abort();
      }
    };
    follow(`reports/${report.id}/events`, {
      signal: abort.signal,
      onState: setState,
      onEvent: ({ data }) => {
        let told;
        try {
          told = JSON.parse(data ?? "");
        } catch {
          return undefined;
        }
        if (told.progress && told.status) {
          onChange(told);
          if (!ended(told)) return undefined;
          onSay(`Report ${told.status}.`);
          return "end";
        }
        look().catch(() => {});
        return undefined;
      },
    }).then(() => (abort.signal.aborted ? undefined : look().catch(() => {})));
    return () => abort.abort();
  }, [report.id, over]);
  return state;
}

const STATES = {
  queued: "Waiting",
  running: "Running",
  completed: "Completed",
  failed: "Failed",
  cancelled: "Cancelled",
  expired: "Expired",
};

function Report({ report, onChange, onDelete, onSay }) {
  const connection = useLive(report, onChange, onSay);
  const [error, setError] = useState(null);
  const { progress } = report;
  const asked = instant(report.created_at);
  const over = ended(report);
  const [cancelButton, deleteButton] = [useRef(), useRef()];
  // The one button takes the other's place: who was at that is at this then. Asked before it is
  // hidden, for then the browser has taken the focus away.
  const atCancel = cancelButton.current && document.activeElement === cancelButton.current;
  useLayoutEffect(() => {
    if (over && atCancel) deleteButton.current.focus();
  }, [over]);

  const cancel = async () => {
    setError(null);
    try {
      onChange(await (await fetched(`reports/${report.id}/cancel`, { method: "POST" })).json());
      onSay("Report cancelled.");
    } catch (problem) {
      if (problem.type !== "report-ended") {
        setError(problem);
        return;
      }
      const now = await getJson(`reports/${report.id}`).catch(() => null);
      if (now) onChange(now);
      onSay(`Not cancelled: the report had ended before${now ? `, ${now.status}` : ""}.`);
    }
  };

  return html`
    <tr>
      <th scope="row">${asked}</th>
      <td class="state">
        <span class=${`badge ${report.status}`}>${STATES[report.status]}</span>
        ${
          report.status === "running" &&
          html`
          <progress max="100" value=${progress.percent ?? 0} aria-label=${`Progress of the report of ${asked}`}></progress>
          <span class="sub">
            ${percent((progress.percent ?? 0) / 100, 0)}${progress.seconds_left !== null && `, ${span(progress.seconds_left)} left`}
          </span>
        `
        }
        ${!ended(report) && connection === "waiting" && html`<span class="sub">connection lost, trying again…</span>`}
        ${report.error && html`<span class="sub">${report.error}</span>`}
        ${error && html`<${Wrong} error=${error} />`}
      </td>
      <td>
        ${report.as_of ? instant(report.as_of) : "–"} <span class="sub">${optionsOf(report)}</span>
        ${report.status === "completed" && report.options.windows && html`<${Windows} report=${report} />`}
      </td>
      <td class="number">${report.seconds === null ? "–" : report.seconds < 10 ? `${report.seconds.toFixed(1)} s` : span(report.seconds)}</td>
      <td class="number">${report.status === "completed" || report.status === "running" ? count(progress.stores_done) : "–"}</td>
      <td>${report.status === "completed" ? html`<${Download} report=${report} />` : "–"}</td>
      <td class="number">
        ${
          report.status === "completed" &&
          !report.options.windows &&
          html`<a href=${address("", { report: report.id })} aria-label=${`Show the report of ${asked}`}>Show</a>`
        }
        <button ref=${cancelButton} type="button" class="quiet" hidden=${over} onClick=${cancel} aria-label=${`Cancel the report of ${asked}`}>Cancel</button>
        <button ref=${deleteButton} type="button" class="quiet" hidden=${!over} onClick=${() => onDelete(report)} aria-label=${`Delete the report of ${asked}`}>Delete</button>
      </td>
    </tr>
  `;
}

/** What all stores together have in the windows that a report names, once that is asked for. */
function Windows({ report }) {
  const [open, setOpen] = useState(false);
  return html`
    <details onToggle=${(event) => setOpen(event.target.open)}>
      <summary>Windows</summary>
      ${open && html`<${WindowsTable} report=${report} />`}
    </details>
  `;
}

function WindowsTable({ report }) {
  const { data, error, reload } = useLoaded(
    (signal) => getJson(`reports/${report.id}/summary`, { signal }),
    [report.id],
  );
  if (error) return html`<${Wrong} error=${error} retry=${reload} />`;
  if (!data) return html`<${Loading} />`;
  const lies = Object.fromEntries(report.windows.map((one) => [one.window, one]));
  return html`
    <table>
      <thead>
        <tr>
          <th scope="col">Window</th><th scope="col">Availability</th><th scope="col" class="number">Up</th>
          <th scope="col" class="number">Down</th><th scope="col" class="number">Unknown</th><th scope="col" class="number">Excluded</th>
        </tr>
      </thead>
      <tbody>
        ${data.windows.map(
          (one) => html`
            <tr key=${one.window}>
              <th scope="row">${lies[one.window].text} <span class="sub">${whereOf(lies[one.window])}</span></th>
              <td>${one.availability === null ? "–" : percent(one.availability)}</td>
              <td class="number">${span(one.uptime)}</td><td class="number">${span(one.downtime)}</td>
              <td class="number">${span(one.unknown)}</td><td class="number">${span(one.excluded)}</td>
            </tr>
          `,
        )}
      </tbody>
    </table>
  `;
}

const whereOf = ({ from, to, first_date: first, last_date: last }) =>
  from ? `${instant(from)} to ${instant(to)}` : `${first} to ${last} in each store's zone`;

/** Its file cannot be had again. */
function Delete({ report, onClose, onRemove, onSay }) {
  const remove = async () => {
    try {
      await fetched(`reports/${report.id}`, { method: "DELETE" });
      onSay("Report deleted.");
    } catch (problem) {
      if (problem.status !== 404) throw problem;
      onSay("The report had been deleted before.");
    }
  };
  return html`
    <${Confirm} title="Delete this report?" yes="Delete" act=${remove} onClose=${onClose} onDone=${() => onRemove(report.id)}>
      The report of ${instant(report.created_at)}${report.status === "completed" ? ` and its CSV of ${bytes(report.file_size ?? 0)}` : ""} will be gone for good.
    <//>
  `;
}

/** A plain link, unless a key is needed: links cannot send one. */
function Download({ report }) {
  const [busy, setBusy] = useState(false);
  const fetchIt = async (event) => {
    if (!key()) return;
    event.preventDefault();
    setBusy(true);
    try {
      await saveCsv(`reports/${report.id}/csv`, `${report.id}.csv`);
    } finally {
      setBusy(false);
    }
  };
  return html`
    <a href=${`reports/${report.id}/csv`} download=${`${report.id}.csv`} onClick=${fetchIt}>CSV</a>
    <span class="sub"> ${busy ? "loading…" : bytes(report.file_size ?? 0)}</span>
  `;
}
