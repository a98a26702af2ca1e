// What a store's page draws: the service's segments and polls, told apart by how sure they are and cut at local days.

import { DAY, HOUR, localDays } from "./days.js";

/** A state is taken as polled, not estimated, this near to a poll that found it so; milliseconds. EXPLANATIONS say it in words. */
export const POLLED_WITHIN = HOUR;
/** Polls of one status this near to each other, milliseconds, are one mark. */
const NEAR = DAY / 700;
const STATE_OF = { active: "up", inactive: "down" };

/**
 * A timeline with instants in milliseconds, from `from` on.
 *
 * The timeline was asked for from somewhat earlier, so that it is known of a segment whether it was there
 * already (`earlier`). `ongoing`: it was not over at the end. `parts` are the segments again, those that are up or
 * down split into what was polled and what is `estimated`.
 */
export function weekOf(timeline, from) {
  const to = Date.parse(timeline.to);
  const polls = timeline.polls.map(({ timestamp_utc: at, status }) => ({ at: Date.parse(at), status }));
  const told = timeline.segments.map(({ start, end, state }) => ({
    start: Date.parse(start),
    end: Date.parse(end),
    state,
  }));
  const segments = told
    .filter(({ end }) => end > from)
    .map((segment) => ({
      ...segment,
      start: Math.max(segment.start, from),
      earlier: segment.start < from,
      ongoing: segment.end === to,
    }));
  const sure = sureTime(told, polls);
  return {
    from,
    to,
    segments,
    polls: polls.filter(({ at }) => at >= from),
    parts: segments.flatMap((segment) => split(segment, sure)),
  };
}

/** For up and down, the stretches of time near to a poll within business hours; ascending, and apart. */
function sureTime(segments, polls) {
  const sure = { up: [], down: [] };
  let i = 0;
  for (const { at, status } of polls) {
    while (i < segments.length - 1 && segments[i].end <= at) i += 1;
    if (["closed", "excluded"].includes(segments[i].state)) continue; // it says nothing
    const stretches = sure[STATE_OF[status]];
    const last = stretches.at(-1);
    if (last && at - POLLED_WITHIN <= last.end) last.end = at + POLLED_WITHIN;
    else stretches.push({ start: at - POLLED_WITHIN, end: at + POLLED_WITHIN });
  }
  return sure;
}

function split(segment, sure) {
  const stretches = sure[segment.state];
  if (!stretches) return [segment];
  const parts = [];
  let from = segment.start;
  const add = (to, estimated) => {
    if (to <= from) return;
    parts.push({
      ...segment,
      start: from,
      end: to,
      estimated,
      earlier: segment.earlier && from === segment.start,
      ongoing: segment.ongoing && to === segment.end,
    });
    from = to;
  };
  for (let i = firstAfter(stretches, segment.start); i < stretches.length && stretches[i].start < segment.end; i += 1) {
    add(stretches[i].start, true);
    add(Math.min(stretches[i].end, segment.end), false);
  }
  add(segment.end, true);
  return parts;
}

/** The index of the first stretch that ends after an instant. */
function firstAfter(stretches, at) {
  let [low, high] = [0, stretches.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (stretches[middle].end > at) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** The local days of a week, each with its own part of everything, and with the seconds of each state. */
export function daysOf({ from, to, parts, polls }, clocks) {
  return localDays(from, to, clocks).map((day) => {
    const [start, end] = [Math.max(day.start, from), Math.min(day.end, to)];
    const within = parts
      .filter((part) => part.start < end && part.end > start)
      .map((part) => ({
        ...part,
        start: Math.max(part.start, start),
        end: Math.min(part.end, end),
        earlier: part.earlier && part.start >= start,
        ongoing: part.ongoing && part.end <= end,
      }));
    const sums = { up: 0, down: 0, unknown: 0, excluded: 0, closed: 0 };
    for (const part of within) sums[part.state] += (part.end - part.start) / 1000;
    const polled = polls.filter(({ at }) => at >= day.start && at < day.end);
    return { ...day, parts: within, sums, polls: apart(polled), polled: polled.length };
  });
}

function apart(polls) {
  const newest = {};
  return polls.filter(({ at, status }) => {
    const near = at - (newest[status] ?? -Infinity) < NEAR;
    if (!near) newest[status] = at;
    return !near;
  });
}
