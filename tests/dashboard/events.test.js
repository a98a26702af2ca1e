import assert from "node:assert/strict";
import { test } from "node:test";
import { events } from "../../service/dashboard/api.js";

/** The events of a stream whose bytes arrive in these pieces. */
async function eventsOf(pieces) {
  const found = [];
  for await (const event of events(ReadableStream.from(pieces))) found.push(event);
  return found;
}

const bytes = (text) => new TextEncoder().encode(text);
const plain = { id: null, type: "message", data: null, retry: null };

test("an event has its id, type and data, of several lines too", async () => {
  const text = "id: 7\nevent: progress\ndata: a\ndata:b\n\nretry: 500\n\n: a comment\n\ndata\n\n";
  assert.deepEqual(await eventsOf([bytes(text)]), [
    { id: "7", type: "progress", data: "a\nb", retry: null },
    { ...plain, retry: 500 },
    { ...plain, data: "" },
  ]);
});

test("it is the same wherever the stream is cut, within a letter or a line's end too", async () => {
  const stream = bytes("id: 1\r\ndata: né\r\n\r\nid: 2\rdata: x\r\rdata: y\n\n");
  const whole = await eventsOf([stream]);
  assert.deepEqual(
    whole.map(({ data }) => data),
    ["né", "x", "y"],
  );
  for (let at = 1; at < stream.length; at += 1) {
    assert.deepEqual(await eventsOf([stream.slice(0, at), stream.slice(at)]), whole, `cut at ${at}`);
  }
});

test("an event that the stream breaks off is none", async () => {
  assert.deepEqual(await eventsOf([bytes("data: a\n\ndata: b\n")]), [{ ...plain, data: "a" }]);
});
