// Numbers, spans and instants as people read them.

const whole = new Intl.NumberFormat("en-GB");
export const count = (number) => whole.format(number);

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

function format(zone, options) {
  const name = zone + JSON.stringify(options);
  let made = formats.get(name);
  if (!made) {
    try {
      made = new Intl.DateTimeFormat("en-GB", { ...options, timeZone: zone });
    } catch {
      made = new Intl.DateTimeFormat("en-GB", { ...options, timeZone: "UTC" }); // a zone the browser lacks
    }
    formats.set(name, made);
  }
  return made;
}

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
export function instant(at, zone = "UTC") {
  const date = new Date(at);
  const { second, ...rest } = FULL;
  const told = format(zone, date.getUTCSeconds() ? FULL : rest).format(date);
  return zone === "UTC" ? `${told} UTC` : told;
}

/** The same with milliseconds and the zone's name then, such as CST or CDT. */
export function exactInstant(at, zone) {
  const date = new Date(at);
  const text = format(zone, { ...FULL, fractionalSecondDigits: 3, timeZoneName: "short" }).format(date);
  return text.replace(".000", "");
}

export const dayName = (at, zone) => format(zone, { weekday: "short", day: "numeric", month: "short" }).format(new Date(at));
export const clock = (at, zone) =>
  format(zone, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }).format(new Date(at));

export function ago(at) {
  const seconds = Math.max(0, (Date.now() - new Date(at)) / 1000);
  return seconds < 5 ? "just now" : `${span(seconds)} ago`;
}

/** The parts of an instant's local time, as numbers. */
export function localParts(at, zone) {
  const parts = {};
  const made = format(zone, {
    year: "numeric",
    month: "numeric",
    day: "numeric",
    hour: "numeric",
    minute: "numeric",
    second: "numeric",
    hourCycle: "h23",
  });
  for (const { type, value } of made.formatToParts(new Date(at))) parts[type] = Number(value);
  return parts;
}
