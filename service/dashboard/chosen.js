// The chosen report, of which Overview and Stores show everything: the one that the address names, else the newest.

import { ended, getJson, newestReports, pause, startReport, storePath } from "./api.js";
import { ago, instant } from "./format.js";
import { html, useEffect, useRef, useState } from "./htm_preact.js";
import { Explain, Loading, PollsGone, Wrong } from "./parts.js";
import { address, changed, choose } from "./view.js";

/** Reports to choose from: those that were made last. */
const OFFERED = 60;
const [SECOND, MINUTE] = [1000, 60_000]; // milliseconds
/** The options of a report, and what they are without being told. */
export const DEFAULT_OPTIONS = { interpolation: "nearest", max_gap: "24h" };

/** What the service tells stores by, in the order of what to do first; each with the order that shows it best. */
export const CONDITIONS = [
  { condition: "down_now", name: "Down now", meaning: "down and never up in the last hour", sort: "-uptime_last_week" },
  {
    condition: "newly_down",
    name: "Newly down",
    meaning: "down in the last 24 hours, and not before in the week",
    sort: "-downtime_last_day",
  },
  {
    condition: "recovered",
    name: "Recovered",
    meaning: "down in the last 24 hours, and up again in the last hour",
    sort: "-downtime_last_day",
  },
  {
    condition: "down_all_week",
    name: "Down all week",
    meaning: "down and never up in 7 days",
    sort: "-downtime_last_week",
  },
  { condition: "nothing_known", name: "Nothing known", meaning: "no poll speaks for them in 7 days", sort: "store_id" },
];

/** A store's page, about the same time and by the same options as the report. */
export const storeOfReport = (id, { as_of: to, options: { interpolation, max_gap: gap }, chosen }) =>
  address(storePath(id), { to, interpolation, max_gap: gap, report: chosen });

const byDefault = ({ options }) => Object.entries(DEFAULT_OPTIONS).every(([name, value]) => options[name] === value);
/** Over all stores, and the windows that these pages show. */
const ofAll = ({ options }) => options.named_stores === null && !options.windows && !options.tags;
const newestFirst = (a, b) =>
  Date.parse(b.as_of) - Date.parse(a.as_of) || Date.parse(b.created_at) - Date.parse(a.created_at);

/** What is there to choose from, the newest `as_of` first, and the report that is wanted, also if it is not among those. */
async function look(wanted, signal) {
  const offered = await newestReports(OFFERED, { signal, asked: { status: "completed" }, wanted: ofAll });
  const reports = offered.sort(newestFirst);
  const listed = reports.find(({ id }) => id === wanted);
  const named =
    wanted && !listed ? await getJson(`reports/${encodeURIComponent(wanted)}`, { signal }).catch(unlessGone) : listed;
  return { wanted, reports, newest: reports.find(byDefault), named };
}

const unlessGone = (problem) => {
  if (problem.status === 404) return null;
  throw problem;
};

/** @import { Loaded } from "./parts.js" */

/**
 * Load something now, and again and again while the page is in sight: { data, error, reload }.
 *
 * After a failure it is tried again soon, and then ever later: a service that starts is there in a moment.
 */
function useFollowed(load, inputs, every) {
  const [state, setState] = useState(/** @type {Loaded} */ ({}));
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const abort = new AbortController();
    let timer;
    let failed = 0; // times, one after the other
    const again = async () => {
      clearTimeout(timer);
      try {
        const data = await load(abort.signal);
        failed = 0;
        if (!abort.signal.aborted) setState({ data });
      } catch (error) {
        failed += 1;
        if (!abort.signal.aborted) setState((before) => ({ data: before.data, error }));
      }
      clearTimeout(timer);
      const next = failed ? Math.min(SECOND * 2 ** failed, every) : every;
      if (!abort.signal.aborted && document.visibilityState === "visible") timer = setTimeout(again, next);
    };
    const onShown = () => document.visibilityState === "visible" && again();
    document.addEventListener("visibilitychange", onShown);
    again();
    return () => {
      abort.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", onShown);
    };
  }, [...inputs, turn]);
  return { ...state, reload: () => setTurn((before) => before + 1) };
}

/**
 * The chosen report: { data, error, reload, feeds }. Who names none follows the newest.
 *
 * `data` is undefined while nothing is known. Its `report` is null if there is none that is completed; `chosen` of
 * that is what links to the same view name: its id, or null where the newest is followed. `feeds`: what is known of
 * them, followed too.
 */
export function useChosen(query) {
  const wanted = query.get("report");
  const reports = useFollowed((signal) => look(wanted, signal), [wanted], MINUTE / 2);
  const feeds = useFollowed((signal) => getJson("feeds", { signal }), [], MINUTE);
  const reload = () => {
    reports.reload();
    feeds.reload();
  };
  const data = reports.data && chosenOf(reports.data, wanted);
  return { data, error: data ? undefined : reports.error, reload, feeds };
}

function chosenOf({ wanted: looked, reports, newest, named }, wanted) {
  const report = wanted ? [...reports, named].find((one) => one?.id === wanted) : newest || reports[0];
  if (!report && looked !== wanted) return undefined; // to be looked for
  return {
    wanted,
    reports,
    newest,
    named,
    report: report?.status === "completed" && !report.options.windows ? { ...report, chosen: wanted } : null,
  };
}

/** The options of a report in words; nothing where they are the default ones. */
export const optionsOf = (report) =>
  [
    !byDefault(report) && `${report.options.interpolation}, gap ${report.options.max_gap}`,
    report.options.windows?.join(", "),
    report.options.calendar && `in ${report.options.calendar}`,
    report.options.tags?.join(", "),
  ]
    .filter(Boolean)
    .join("; ");

const nameOf = (report) => `${instant(report.as_of)}${optionsOf(report) && ` · ${optionsOf(report)}`}`;

/** The heading of a page about the chosen report: what it is called, which report it shows, and what is newer. */
export function ChosenHead({ title, chosen, children }) {
  const { report, reports, newest, wanted } = chosen.data;
  const offered = reports.some(({ id }) => id === report.id) ? reports : [report, ...reports];
  const { interpolation, max_gap: maxGap, named_stores: named } = report.options;
  return html`
    <div class="head">
      <div>
        <h1>${title}</h1>
        <p class="sub">
          ${children} as of <strong>${instant(report.as_of)}</strong>; report made ${ago(report.finished_at)},${" "}
          ${interpolation}<${Explain} about=${interpolation} />, gap up to ${maxGap}<${Explain} about="max_gap" />${
            named === null ? "" : `, of ${named} named stores`
          }
        </p>
        <${PollsGone} since=${report.polls_kept_since} />
      </div>
      <label class="chosen">
        Report as of
        <select value=${wanted || ""} onChange=${(event) => choose({ report: event.target.value })}>
          ${newest && html`<option value="">newest: ${nameOf(newest)}</option>`}
          ${!newest && !wanted && html`<option value="">${nameOf(report)}</option>`}
          ${offered.map((one) => html`<option key=${one.id} value=${one.id}>${nameOf(one)}</option>`)}
        </select>
      </label>
    </div>
    <${News} chosen=${chosen} />
  `;
}

/** Tells of a newer report than the one that is shown, and of what was loaded that no report has seen. */
function News({ chosen }) {
  const { report, newest } = chosen.data;
  const { newest_poll: newestPoll, loads = [] } = chosen.feeds.data || {};
  const load = loads.find(({ loaded }) => loaded.new || loaded.replaced);
  const showNewest = () => {
    choose({ report: null });
    chosen.reload();
  };
  const later = (at, than) => Date.parse(at) > Date.parse(than);
  const newerReport = newest && later(newest.as_of, report.as_of);
  const newerPolls = newestPoll && (!newest || later(newestPoll, newest.as_of));
  const newerFeeds = newest && load && later(load.at, newest.started_at);
  return html`
    <div class="news" role="status">
      ${newerReport && html`<p>There is a newer report, as of ${instant(newest.as_of)}. <${ShowNewest} /></p>`}
      ${
        (newerPolls || newerFeeds) &&
        html`
        <p>
          ${newerPolls ? `Newer polls are loaded, up to ${instant(newestPoll)}.` : `Feeds were loaded ${ago(load.at)}, after the newest report was begun.`}${" "}
          <${Make} onMade=${showNewest}>Make a report<//>
        </p>
      `
      }
    </div>
  `;
}

const ShowNewest = () => html`<a href=${changed({ report: null })}>Show the newest</a>`;

/** A button that makes a report with the default options, and tells when it is there. */
export function Make({ onMade, kind = "", children }) {
  const [state, setState] = useState(/** @type {{ busy?: boolean, error?: Error }} */ ({}));
  const abort = useRef(new AbortController());
  useEffect(() => () => abort.current.abort(), []);
  const make = async () => {
    setState({ busy: true });
    try {
      let report = await startReport({ ...DEFAULT_OPTIONS, include_unknown: true });
      const { signal } = abort.current;
      while (!ended(report)) {
        await pause(SECOND / 2, signal);
        report = await getJson(`reports/${report.id}`, { signal });
      }
      if (report.status === "completed") onMade(report);
      else setState({ error: new Error(report.error || `The report is ${report.status}: see Reports.`) });
    } catch (error) {
      if (!abort.current.signal.aborted) setState({ error });
    }
  };
  return html`
    <button type="button" class=${kind} disabled=${state.busy} onClick=${make}>${state.busy ? "Making a report…" : children}</button>
    ${state.error && html`<${Wrong} error=${state.error} />`}
  `;
}

/** What to do as long as there is no report to show. */
export function NoReport({ chosen }) {
  const { data: feeds, error, reload } = chosen.feeds;
  const { wanted, named } = chosen.data;
  if (wanted) {
    const told = named?.options.windows
      ? "This report is over windows of its own, which the page of reports shows."
      : named
        ? `This report is ${named.status}: only a completed one can be shown.`
        : "There is no report with this id: it was deleted, or never made.";
    return html`<div class="wrong" role="alert"><p>${told}</p><${ShowNewest} /></div>`;
  }
  if (error && !feeds) return html`<${Wrong} error=${error} retry=${reload} />`;
  if (!feeds) return html`<${Loading} />`;
  const newestPoll = feeds.newest_poll;
  return html`
    <section class="card welcome">
      <h2>${newestPoll ? "No report yet" : "Nothing is loaded yet"}</h2>
      <p>
        A report tells how long each store was up and down within its business hours, over the last hour, day and
        week.
      </p>
      ${
        newestPoll
          ? html`
            <p>Polls are loaded, up to ${instant(newestPoll)}.</p>
            <p><${Make} kind="main" onMade=${chosen.reload}>Start report<//></p>
          `
          : html`
            <p>It is made of polls, business hours and time zones; polls are enough to begin with.</p>
            <p><a class="button" href="#/feeds">Load feeds</a></p>
          `
      }
    </section>
  `;
}
