import assert from "node:assert/strict";
import { test } from "node:test";
import { optionsOf, storeOfReport } from "../../service/dashboard/chosen.js";
import { address } from "../../service/dashboard/view.js";

const report = (options) => ({
  as_of: "2026-03-02T00:00:00Z",
  options: { interpolation: "nearest", max_gap: "24h", ...options },
  chosen: null,
});

test("an address leaves out what is empty, and nothing else", () => {
  assert.equal(address(""), "#/");
  assert.equal(address("stores", { search: "", report: null, zone: undefined }), "#/stores");
  assert.equal(address("stores", { search: "a&b", below: 0 }), "#/stores?search=a%26b&below=0");
});

test("a store's address keeps the time and the options of its report, whatever its id is", () => {
  const link = storeOfReport("a/b?c", { ...report({ max_gap: "2h" }), chosen: "r1" });
  const [path, query] = link.split("?");
  assert.equal(path, "#/stores/a%2Fb%3Fc");
  assert.deepEqual(Object.fromEntries(new URLSearchParams(query)), {
    to: "2026-03-02T00:00:00Z",
    interpolation: "nearest",
    max_gap: "2h",
    report: "r1",
  });
});

test("options are told where they are not the default ones", () => {
  assert.equal(optionsOf(report({})), "");
  assert.equal(optionsOf(report({ interpolation: "previous" })), "previous, gap 24h");
});
