// Numbers, spans and instants as people read them.

const whole = new Intl.NumberFormat("en-GB");
export const count = (number) => whole.format(number);

/** So many of something, of which "s" makes several: "1 store". */
export const counted = (number, one) => `${count(number)} ${number === 1 ? one : `${one}s`}`;

export const WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
/** What the service calls its windows. */
export const WINDOW_NAMES = { hour: "Last hour", day: "Last 24 hours", week: "Last 7 days" };

/** A share of 0 to 1 in percent; never 100 % or 0 % by rounding alone. */
export function percent(share, digits = 2) {
  if (share === null || share === undefined || Number.isNaN(share)) return "–";
  const step = 10 ** digits;
  let scaled = share * 100 * step;
  if (share < 1 && Math.round(scaled) >= 100 * step) scaled = 100 * step - 1;
  else if (share > 0 && Math.round(scaled) === 0) return `< ${(1 / step).toFixed(digits)} %`;
  else scaled = Math.round(scaled);
  return `${(scaled / step).toFixed(share === 1 || share === 0 ? 0 : digits)} %`;
}

/** A change of a share, in percentage points. */
export function points(change) {
  if (change === null || Number.isNaN(change)) return "–";
  const told = Math.abs(change * 100).toFixed(2);
  if (told === "0.00") return "±0.00";
  return `${change > 0 ? "+" : "−"}${told}`;
}

/** Seconds as the two largest units. */
export function span(seconds) {
  const total = Math.round(seconds);
  if (seconds > 0 && total === 0) return "< 1 s";
  const [d, h, m, s] = [total / 86400, (total % 86400) / 3600, (total % 3600) / 60, total % 60].map(Math.floor);
  if (d >= 3) return h ? `${d} d ${h} h` : `${d} d`;
  if (total >= 3600) return m ? `${d * 24 + h} h ${m} min` : `${d * 24 + h} h`;
  if (m) return s ? `${m} min ${s} s` : `${m} min`;
  return `${s} s`;
}

/** Seconds in all their units. */
export function exactSpan(seconds) {
  const total = Math.round(seconds);
  if (!total) return seconds > 0 ? "< 1 s" : "0 s";
  const parts = [
    [Math.floor(total / 3600), "h"],
    [Math.floor((total % 3600) / 60), "min"],
    [total % 60, "s"],
  ];
  return parts
    .filter(([value]) => value)
    .map(([value, unit]) => `${count(value)} ${unit}`)
    .join(" ");
}

/** Many stores' seconds together, as hours. */
export function hours(seconds) {
  const value = seconds / 3600;
  return `${value >= 100 ? whole.format(Math.round(value)) : value.toFixed(value < 1 ? 2 : 1)} h`;
}

export function bytes(size) {
  if (size < 1000) return `${size} B`;
  if (size < 1e6) return `${(size / 1e3).toFixed(1)} kB`;
  if (size < 1e9) return `${(size / 1e6).toFixed(1)} MB`;
  return `${(size / 1e9).toFixed(2)} GB`;
}

const formats = new Map();

function format(options) {
  const name = JSON.stringify(options);
  if (!formats.has(name)) formats.set(name, new Intl.DateTimeFormat("en-GB", { ...options, timeZone: "UTC" }));
  return formats.get(name);
}

/** @typedef {Pick<import("./days.js").LocalTime, "local" | "abbreviation" | "isTwofold">} Clocks */

/**
 * The clocks that count where no others are given; those of a store are a LocalTime (days.js).
 *
 * @type {Clocks}
 */
const UTC = { local: (at) => at, abbreviation: () => "UTC", isTwofold: () => false };
const told = (at, clocks, options) => format(options).format(clocks.local(Number(new Date(at))));

/** @type {Intl.DateTimeFormatOptions} */
const FULL = {
  weekday: "short",
  day: "numeric",
  month: "short",
  year: "numeric",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
};

/** An instant, its seconds only where there are some. */
export function instant(at, clocks = UTC) {
  const date = new Date(at);
  const { second, ...rest } = FULL;
  return `${told(date, clocks, date.getUTCSeconds() ? FULL : rest)} ${clocks.abbreviation(Number(date))}`;
}

/** The same, always with its seconds, and with milliseconds where there are some. */
export function exactInstant(at, clocks = UTC) {
  const text = told(at, clocks, { ...FULL, fractionalSecondDigits: 3 });
  return `${text.replace(/[.]000$/, "")} ${clocks.abbreviation(Number(new Date(at)))}`;
}

export const dayName = (at, clocks = UTC) => told(at, clocks, { weekday: "short", day: "numeric", month: "short" });

/** Hours and minutes, with the name of the offset on days that have two. */
export function clock(at, clocks = UTC) {
  const text = told(at, clocks, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const instantOf = Number(new Date(at));
  return clocks.isTwofold(instantOf) ? `${text} ${clocks.abbreviation(instantOf)}` : text;
}

export function ago(at) {
  const seconds = Math.max(0, (Date.now() - Number(new Date(at))) / 1000);
  return seconds < 5 ? "just now" : `${span(seconds)} ago`;
}
