// A store's clocks, by the offsets that the service tells, and its local days: 23 or 25 hours where clocks change.

/** Milliseconds. */
export const HOUR = 3_600_000;
export const DAY = 24 * HOUR;

/** The local time of a timeline's store. The browser's own rules of time zones may be others than the service's. */
export class LocalTime {
  constructor({ offsets, to }) {
    this.offsets = offsets.map(({ from, seconds, abbreviation }, i) => ({
      start: i ? Date.parse(from) : -Infinity,
      end: i + 1 < offsets.length ? Date.parse(offsets[i + 1].from) : Infinity,
      ahead: seconds * 1000,
      // Zones without letters are told by their offset.
      abbreviation: abbreviation.replace(
        /^([+-]\d\d)(\d\d)?$/,
        (_, hours, minutes) => `UTC${hours}${minutes ? `:${minutes}` : ""}`,
      ),
    }));
    this.known = { from: Date.parse(offsets[0].from), to: Date.parse(to) + DAY };
  }

  /** Whether the offset is told of an instant. */
  covers(at) {
    return at >= this.known.from && at < this.known.to;
  }

  #at(at) {
    return this.offsets.find(({ end }) => at < end);
  }

  /** Milliseconds of the wall time, counted as if it were UTC. */
  local(at) {
    return at + this.#at(at).ahead;
  }

  abbreviation(at) {
    return this.#at(at).abbreviation;
  }

  dateOf(at) {
    return Math.floor(this.local(at) / DAY) * DAY;
  }

  /** The first instant of a local date; not always midnight, which a change of clocks may skip. */
  firstInstant(date) {
    const { start, ahead } = this.offsets.find(({ end, ahead: then }) => date - then < end);
    return Math.max(start, date - ahead);
  }

  /** What is told anew from an instant on, within a stretch of time: [before, after] of each. */
  changes(start, end) {
    return this.offsets.flatMap((after, i) =>
      i && after.start >= start && after.start < end ? [[this.offsets[i - 1], after]] : [],
    );
  }

  /** Whether the local day of an instant has two offsets, or two names of them, so that a clock alone is not enough. */
  isTwofold(at) {
    const date = this.dateOf(at);
    return this.changes(this.firstInstant(date), this.firstInstant(date + DAY)).length > 0;
  }
}

/**
 * The local days that a window touches.
 *
 * Each has `start` and `end`, `ticks` at its full local hours ({ at, hour }), and `changes` of its
 * clocks ([before, after], as LocalTime has them).
 */
export function localDays(from, to, clocks) {
  const days = [];
  let date = clocks.dateOf(from);
  let start = clocks.firstInstant(date);
  while (start < to) {
    date += DAY;
    const end = clocks.firstInstant(date);
    if (end > start) days.push({ start, end, ticks: ticksOf(start, end, clocks), changes: clocks.changes(start, end) }); // a zone may skip a whole date
    start = end;
  }
  return days;
}

function ticksOf(start, end, clocks) {
  const ticks = [];
  for (const { start: from, end: to, ahead } of clocks.offsets) {
    const last = Math.min(end, to);
    for (let local = Math.ceil((Math.max(start, from) + ahead) / HOUR) * HOUR; local - ahead < last; local += HOUR) {
      ticks.push({ at: local - ahead, hour: (local / HOUR) % 24 });
    }
  }
  return ticks;
}
