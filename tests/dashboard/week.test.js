import assert from "node:assert/strict";
import { test } from "node:test";
import { LocalTime } from "../../service/dashboard/days.js";
import { daysOf, weekOf } from "../../service/dashboard/week.js";

const MIDNIGHT = Date.parse("2026-03-02T00:00:00Z");
/** The instant so many hours after midnight, as the service tells it. */
const hour = (hours) => new Date(MIDNIGHT + hours * 3_600_000).toISOString();
const hoursOf = (instant) => (instant - MIDNIGHT) / 3_600_000;

/** A timeline of [start, end, state] and [at, status], in hours. */
const timeline = (segments, polls) => ({
  to: hour(segments.at(-1)[1]),
  offsets: [{ from: hour(-24), seconds: 0, abbreviation: "UTC" }],
  segments: segments.map(([start, end, state]) => ({ start: hour(start), end: hour(end), state })),
  polls: polls.map(([at, status]) => ({ timestamp_utc: hour(at), status })),
});

const told = ({ start, end, state, estimated }) => [hoursOf(start), hoursOf(end), state, estimated];

test("within an hour of a poll that found it so a state is polled, farther from any it is estimated", () => {
  const { parts } = weekOf(timeline([[0, 12, "up"]], [[6, "active"]]), MIDNIGHT);
  assert.deepEqual(parts.map(told), [
    [0, 5, "up", true],
    [5, 7, "up", false],
    [7, 12, "up", true],
  ]);
});

test("a poll of the other status makes nothing sure, nor does one outside of business hours", () => {
  const segments = [
    [0, 4, "down"],
    [4, 8, "closed"],
    [8, 12, "down"],
  ];
  const polls = [
    [2, "active"],
    [7.5, "inactive"],
  ];
  const { parts } = weekOf(timeline(segments, polls), MIDNIGHT);
  assert.deepEqual(parts.map(told), [
    [0, 4, "down", true],
    [4, 8, "closed", undefined],
    [8, 12, "down", true],
  ]);
});

test("polls that are near to each other make one stretch", () => {
  const polls = [1, 2, 3, 4].map((at) => [at, "active"]);
  const { parts } = weekOf(timeline([[0, 6, "up"]], polls), MIDNIGHT);
  assert.deepEqual(parts.map(told), [
    [0, 5, "up", false],
    [5, 6, "up", true],
  ]);
});

test("what began before the week is cut, and tells so; what ends it is not over", () => {
  const segments = [
    [-2, -1, "up"],
    [-1, 3, "down"],
    [3, 6, "unknown"],
  ];
  const { segments: cut, polls } = weekOf(timeline(segments, [[-1, "inactive"]]), MIDNIGHT);
  assert.deepEqual(
    cut.map(({ start, earlier, ongoing }) => [hoursOf(start), earlier, ongoing]),
    [
      [0, true, false],
      [3, false, true],
    ],
  );
  assert.deepEqual(polls, []);
});

test("a part that passes midnight is in both days, and their sums are its length", () => {
  const told = timeline([[0, 48, "down"]], []);
  const days = daysOf(weekOf(told, MIDNIGHT), new LocalTime(told));
  assert.deepEqual(
    days.map(({ sums }) => sums.down),
    [86_400, 86_400],
  );
  assert.deepEqual(
    days.map(({ parts: [part] }) => part.ongoing),
    [false, true],
  );
});

test("polls of one status that would be drawn over each other are one mark, and are all counted", () => {
  const polls = [
    [1, "active"],
    [1.02, "active"],
    [1.03, "inactive"],
    [1.04, "active"],
  ];
  const told = timeline([[0, 6, "up"]], polls);
  const [day] = daysOf(weekOf(told, MIDNIGHT), new LocalTime(told));
  assert.equal(day.polled, 4);
  assert.deepEqual(
    day.polls.map(({ at }) => hoursOf(at)),
    [1, 1.03, 1.04],
  );
});
