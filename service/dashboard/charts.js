// Pictures of all stores over time. Each is a table that is laid out as a picture: it is read aloud as one, and printed as it is seen.

import { getJson } from "./api.js";
import { DAY } from "./days.js";
import { count, hours, percent, WEEKDAYS } from "./format.js";
import { html, useRef, useState } from "./htm_preact.js";
import { Explain, Loading, reached, useLoaded, Wrong } from "./parts.js";

const [TREND_DAYS, DATES_NAMED] = [28, 5];
/** Where bars of availability may begin: below all of them, so that their differences are seen. */
const FLOORS = [0.999, 0.99, 0.95, 0.9, 0.8, 0.5, 0];
const HOURS = Array.from({ length: 24 }, (_, hour) => hour);

const dateName = new Intl.DateTimeFormat("en-GB", {
  weekday: "short",
  day: "numeric",
  month: "short",
  timeZone: "UTC",
});
const shortDate = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });

/** Every date from the first with a report to the last, each with what was reported, if anything was. */
function datesOf(items) {
  const known = new Map(items.map((item) => [item.date, item]));
  const [first, last] = [items[0], items[items.length - 1]].map(({ date }) => Date.parse(date));
  const dates = [];
  for (let at = first; at <= last; at += DAY)
    dates.push({ at, item: known.get(new Date(at).toISOString().slice(0, 10)) });
  return dates;
}

/**
 * Which mark of a picture is pointed at, touched, or reached by Tab and the arrow keys: [its number or null, what its box needs, what a mark needs].
 *
 * `row`: marks in a line, of which one above or below is so many away.
 */
function usePointed(marks, row = 0) {
  const [pointed, point] = useState(null);
  const [stop, setStop] = useState(0); // the one mark that Tab reaches
  const ref = useRef();
  const over = (event) => {
    const mark = event.target.closest("[data-at]");
    if (mark) point(Number(mark.dataset.at));
  };
  const box = {
    ref,
    onMouseOver: over,
    onMouseLeave: () => point(null),
    onFocusCapture: over,
    onBlurCapture: () => point(null),
    onKeyDown: (event) => {
      const { at } = event.target.dataset;
      const next = at === undefined ? undefined : reached(event.key, Number(at), marks, row);
      if (next === undefined) return;
      event.preventDefault();
      setStop(next);
      ref.current.querySelector(`[data-at="${next}"]`).focus();
    },
  };
  return [pointed, box, (at) => ({ "data-at": at, tabindex: at === stop ? 0 : -1 })];
}

/** What a picture's mark says that is pointed at, or how to make one say something. */
const Told = ({ children }) => html`
  <p class="sub told" aria-hidden="true">${children || html`<span class="how">Point at a mark, touch it, or go there by Tab and the arrow keys.</span>`}</p>
`;

export function Trend({ report }) {
  const { data, error, reload } = useLoaded(
    (signal) => getJson(`reports/${report.id}/trend?days=${TREND_DAYS}`, { signal }),
    [report.id],
  );
  return html`
    <section class="card">
      <h2>Day by day <span class="of">the last 24 hours of each day's last report, the same options</span></h2>
      ${error && html`<${Wrong} error=${error} retry=${reload} />`}
      ${!data && !error && html`<${Loading} />`}
      ${data && (data.items.length < 2 ? html`<p class="sub">Of one day so far: the trend begins with the second.</p>` : html`<${TrendBars} items=${data.items} />`)}
    </section>
  `;
}

function TrendBars({ items }) {
  const dates = datesOf(items);
  const known = items.filter(({ availability }) => availability !== null);
  const least = Math.min(1, ...known.map(({ availability }) => availability));
  const floor = FLOORS.find((one) => one < least) ?? 0;
  const most = Math.max(1, ...items.map(({ stores_down: stores }) => stores));
  const [pointed, box, mark] = usePointed(dates.length);
  const named = Math.ceil(dates.length / DATES_NAMED); // every so many
  const down = ({ stores_down: stores }) => (stores === null ? "–" : count(stores)); // a version before counted none
  const tell = ({ at, item }) =>
    `${dateName.format(at)}: ${item ? `${percent(item.availability)} available, ${down(item)} of ${count(item.stores)} stores down` : "no report"}`;
  const bar = (share) => ({ height: share > 0 ? `max(2px, ${100 * share}%)` : 0 });
  return html`
    <div class="trend" role="table" aria-label="Availability and stores that were down, day by day" ...${box}>
      <div class="trend-head" role="row">
        <span role="columnheader"><span class="hidden">Day</span></span>
        <span role="columnheader">Available<small>${Number((100 * floor).toFixed(1))} to 100 %</small></span>
        <span role="columnheader">Stores down<small>0 to ${count(most)}</small></span>
      </div>
      ${dates.map(
        ({ at, item }, i) => html`
          <div class="trend-day" role="row" key=${at} ...${mark(i)}>
            <span role="rowheader" class=${(dates.length - 1 - i) % named ? "date between" : "date"}>
              <span class="hidden">${dateName.format(at)}</span><span aria-hidden="true">${shortDate.format(at)}</span>
            </span>
            <span role="cell" class="trend-bar">
              <i class="good" style=${bar(item && item.availability !== null ? (item.availability - floor) / (1 - floor) : 0)}></i>
              <span class="hidden">${item ? percent(item.availability) : "no report"}</span>
            </span>
            <span role="cell" class="trend-bar low">
              <i class="bad" style=${bar(item ? item.stores_down / most : 0)}></i><span class="hidden">${item ? down(item) : "–"}</span>
            </span>
          </div>
        `,
      )}
    </div>
    <${Told}>${pointed === null ? null : tell(dates[pointed])}<//>
  `;
}

const hourName = (hour) => `${String(hour).padStart(2, "0")}–${String(hour + 1).padStart(2, "0")}`;

export function HeatMap({ downByHour }) {
  if (!downByHour) {
    return html`<section class="card"><h2>When stores are down</h2><p class="sub">This report was made by a version that did not count hours.</p></section>`;
  }
  return html`<${Hours} downByHour=${downByHour} />`;
}

function Hours({ downByHour }) {
  const [pointed, box, mark] = usePointed(downByHour.length, HOURS.length);
  const most = Math.max(...downByHour);
  const worst = downByHour.indexOf(most);
  const hourOf = (at) => `${WEEKDAYS[Math.floor(at / 24)]}, ${hourName(at % 24)}`;
  return html`
    <section class="card">
      <h2>When stores are down <span class="of">last 7 days, each store's local time</span><${Explain} about="up" /></h2>
      <p class="sub">
        ${most ? html`The most on <strong>${hourOf(worst)}</strong>: ${hours(most)} of all stores together.` : "No store was down."}
      </p>
      <div class="scroll" tabindex="0" role="region" aria-label="Downtime by hour of the week">
        <table class="heat" ...${box}>
          <thead>
            <tr>
              <td></td>
              ${HOURS.map((at) => html`<th scope="col"><span class="hidden">${hourName(at)}</span><span aria-hidden="true">${at % 3 ? "" : at}</span></th>`)}
            </tr>
          </thead>
          <tbody>
            ${WEEKDAYS.map(
              (name, row) => html`
                <tr>
                  <th scope="row"><span class="hidden">${name}</span><span aria-hidden="true">${name.slice(0, 3)}</span></th>
                  ${HOURS.map((hour) => {
                    const at = 24 * row + hour;
                    const heat = most ? (100 * downByHour[at]) / most : 0;
                    return html`<td style=${{ "--heat": `${heat}%` }} ...${mark(at)}><span class="hidden">${hours(downByHour[at])}</span></td>`;
                  })}
                </tr>
              `,
            )}
          </tbody>
        </table>
      </div>
      <${Told}>${pointed === null ? null : `${hourOf(pointed)}: ${hours(downByHour[pointed])} down`}<//>
      <p class="legend heat-key" aria-hidden="true">0 h <i></i> ${hours(most)}</p>
    </section>
  `;
}
