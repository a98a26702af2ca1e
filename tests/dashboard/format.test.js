import assert from "node:assert/strict";
import { test } from "node:test";
import {
  ago,
  bytes,
  clock,
  exactInstant,
  exactSpan,
  hours,
  instant,
  percent,
  points,
  span,
} from "../../service/dashboard/format.js";

const each = (told, cases) => {
  for (const [given, text] of cases) assert.equal(told(given), text, `of ${given}`);
};

test("a share is 100 % or 0 % only if it is", () => {
  each(percent, [
    [1, "100 %"],
    [0.9999999, "99.99 %"],
    [0.99994, "99.99 %"],
    [0.12345, "12.35 %"],
    [0.00004, "< 0.01 %"],
    [0, "0 %"],
  ]);
  assert.equal(percent(0.996, 0), "99 %");
  assert.equal(percent(0.004, 0), "< 1 %");
});

test("a share of nothing is none", () => {
  each(
    percent,
    [null, undefined, 0 / 0].map((nothing) => [nothing, "–"]),
  );
  each(
    points,
    [null, 0 / 0].map((nothing) => [nothing, "–"]),
  );
});

test("a change has its sign, and none if it is too small to be told", () => {
  each(points, [
    [0.0123, "+1.23"],
    [-0.0123, "−1.23"],
    [-0.00004, "±0.00"],
    [0, "±0.00"],
  ]);
});

test("a span is told by its two largest units", () => {
  each(span, [
    [0, "0 s"],
    [0.2, "< 1 s"],
    [59.6, "1 min"],
    [61, "1 min 1 s"],
    [3600, "1 h"],
    [3661, "1 h 1 min"],
    [2 * 86400 + 60, "48 h 1 min"],
    [3 * 86400, "3 d"],
    [7 * 86400 - 1, "6 d 23 h"],
  ]);
});

test("an exact span leaves nothing out", () => {
  each(exactSpan, [
    [0, "0 s"],
    [0.2, "< 1 s"],
    [3601, "1 h 1 s"],
    [1000 * 3600 + 61, "1,000 h 1 min 1 s"],
  ]);
});

test("hours and sizes have as many digits as are read", () => {
  each(hours, [
    [900, "0.25 h"],
    [36_000, "10.0 h"],
    [3_600_000, "1,000 h"],
  ]);
  each(bytes, [
    [999, "999 B"],
    [1500, "1.5 kB"],
    [2_340_000, "2.3 MB"],
    [5_000_000_000, "5.00 GB"],
  ]);
});

test("an instant shows seconds where there are some, an exact one always", () => {
  each(instant, [
    ["2026-01-05T06:07:00Z", "Mon, 5 Jan 2026, 06:07 UTC"],
    ["2026-01-05T06:07:08Z", "Mon, 5 Jan 2026, 06:07:08 UTC"],
  ]);
  each(exactInstant, [
    ["2026-01-05T06:07:00Z", "Mon, 5 Jan 2026, 06:07:00 UTC"],
    ["2026-01-05T06:07:08.5Z", "Mon, 5 Jan 2026, 06:07:08.500 UTC"],
  ]);
  assert.equal(clock("2026-01-05T00:07:00Z"), "00:07");
});

test("what was a moment ago, or is yet to come by another clock, is just now", () => {
  assert.equal(ago(Date.now() + 60_000), "just now");
  assert.equal(ago(Date.now() - 7_200_500), "2 h ago");
});
