import assert from "node:assert/strict";
import { test } from "node:test";
import { LocalTime, localDays } from "../../service/dashboard/days.js";
import { clock } from "../../service/dashboard/format.js";

const HOUR = 3_600_000;
const at = (text) => Date.parse(text);
const iso = (instant) => new Date(instant).toISOString().slice(0, 16);

/** The local time of one change: the offset before it, when it is, and the offset after; hours. */
function changing(before, when, after, names = ["A", "B"]) {
  const from = new Date(at(when) - 30 * 24 * HOUR).toISOString();
  const offsets = [
    { from, seconds: before * 3600, abbreviation: names[0] },
    { from: when, seconds: after * 3600, abbreviation: names[1] },
  ];
  return new LocalTime({ offsets, to: new Date(at(when) + 5 * 24 * HOUR).toISOString() });
}

const lengths = (days) => days.map(({ start, end }) => (end - start) / HOUR);

test("a day on which clocks go back has 25 hours, one of them twice", () => {
  const newYork = changing(-4, "2026-11-01T06:00:00Z", -5, ["EDT", "EST"]);
  const days = localDays(at("2026-10-31T12:00:00Z"), at("2026-11-02T12:00:00Z"), newYork);
  assert.deepEqual(lengths(days), [24, 25, 24]);
  const hours = days[1].ticks.map(({ hour }) => hour);
  assert.deepEqual(hours.slice(0, 4), [0, 1, 1, 2]);
  assert.equal(hours.length, 25);
  assert.equal(days[1].changes.length, 1);
});

test("on such a day alone, a clock says which of the two hours it is", () => {
  const newYork = changing(-4, "2026-11-01T06:00:00Z", -5, ["EDT", "EST"]);
  assert.equal(clock("2026-11-01T05:30:00Z", newYork), "01:30 EDT");
  assert.equal(clock("2026-11-01T06:30:00Z", newYork), "01:30 EST");
  assert.equal(clock("2026-11-02T06:30:00Z", newYork), "01:30");
});

test("a day whose midnight is skipped begins at one", () => {
  const santiago = changing(-4, "2026-09-06T04:00:00Z", -3);
  const [, day] = localDays(at("2026-09-05T12:00:00Z"), at("2026-09-06T12:00:00Z"), santiago);
  assert.equal(iso(day.start), "2026-09-06T04:00");
  assert.equal((day.end - day.start) / HOUR, 23);
  assert.equal(day.ticks[0].hour, 1);
});

test("a date that a zone skips is no day", () => {
  const apia = changing(-10, "2011-12-30T10:00:00Z", 14);
  const days = localDays(at("2011-12-29T12:00:00Z"), at("2011-12-31T12:00:00Z"), apia);
  assert.deepEqual(lengths(days), [24, 24, 24]);
  const dates = days.map(({ start }) => iso(apia.dateOf(start)).slice(0, 10));
  assert.deepEqual(dates, ["2011-12-29", "2011-12-31", "2012-01-01"]);
});

test("an offset of no whole hour has its ticks at the full local hours", () => {
  const kathmandu = changing(5.75, "2026-03-01T00:00:00Z", 5.75, ["+0545", "+0545"]);
  const [day] = localDays(at("2026-03-02T00:00:00Z"), at("2026-03-02T01:00:00Z"), kathmandu);
  assert.equal(iso(day.ticks[0].at), "2026-03-01T18:15");
  assert.equal(day.ticks.length, 24);
  assert.equal(kathmandu.abbreviation(day.start), "UTC+05:45");
});

test("an instant far from the timeline is not covered by its offsets", () => {
  const zone = changing(1, "2026-03-29T01:00:00Z", 2);
  assert.equal(zone.covers(at("2026-03-29T00:00:00Z")), true);
  assert.equal(zone.covers(at("2025-03-29T00:00:00Z")), false);
  assert.equal(zone.covers(at("2027-03-29T00:00:00Z")), false);
});
