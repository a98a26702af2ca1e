// Local days of a time zone, as long as they are: 23 or 25 hours where clocks change.

import { localParts } from "./format.js";

const HOUR = 3_600_000;
const STEP = HOUR / 2;

const dateOf = (at, zone) => {
  const { year, month, day } = localParts(at, zone);
  return Date.UTC(year, month - 1, day);
};

/** How far local time is ahead of UTC, milliseconds. */
export function offset(at, zone) {
  const { year, month, day, hour, minute, second } = localParts(at, zone);
  return Date.UTC(year, month - 1, day, hour, minute, second) - Math.floor(at / 1000) * 1000;
}

/** The first instant of a local date; not always midnight, which a change of clocks may skip. */
function firstInstant(date, zone) {
  let before = date - 16 * HOUR;
  let after = date + 16 * HOUR;
  while (after - before > 1000) {
    const middle = Math.floor((before + after) / 2000) * 1000;
    if (dateOf(middle, zone) >= date) after = middle;
    else before = middle;
  }
  return after;
}

/**
 * The local days that a window touches.
 *
 * Each has `start` and `end`, `ticks` at its full local hours ({ at, hour }), and `changes` of its
 * clocks ({ at, from, to }, milliseconds ahead of UTC).
 */
export function localDays(from, to, zone) {
  const days = [];
  let date = dateOf(from, zone);
  let start = firstInstant(date, zone);
  while (start < to) {
    date += 24 * HOUR;
    const end = firstInstant(date, zone);
    if (end > start) days.push({ start, end, ...clockOf(start, end, zone) }); // a zone may skip a whole date
    start = end;
  }
  return days;
}

function clockOf(start, end, zone) {
  const ticks = [];
  const changes = [];
  let ahead = offset(start - STEP, zone);
  for (let at = start; at < end; at += STEP) {
    const now = offset(at, zone);
    if (now !== ahead) changes.push({ at: changeBetween(at - STEP, at, ahead, zone), from: ahead, to: now });
    ahead = now;
    const local = at + now;
    if (local % HOUR === 0) ticks.push({ at, hour: (local / HOUR) % 24 });
  }
  return { ticks, changes };
}

function changeBetween(before, after, ahead, zone) {
  while (after - before > 1000) {
    const middle = Math.floor((before + after) / 2000) * 1000;
    if (offset(middle, zone) === ahead) before = middle;
    else after = middle;
  }
  return after;
}
