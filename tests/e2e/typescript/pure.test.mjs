// What needs no server: decoders, the discipline of a cursor, the outbox, delays, codes.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";

import { ProblemError, ProtocolError, isProblem, isTerminal, opaque } from "segue-client";

import { random } from "../support.mjs";
import { event, frame, inside } from "./support.mjs";

const { SseDecoder } = await inside("sse");
const { LineDecoder } = await inside("lines");
const { Backoff } = await inside("backoff");
const { Place } = await inside("place");
const { Outbox } = await inside("outbox");

/** Feeds bytes in these pieces. */
function feed(decoder, bytes, ...cuts) {
  const borders = [0, ...cuts, bytes.length];
  return borders.slice(1).flatMap((end, index) => decoder.push(bytes.subarray(borders[index], end)));
}

/** What a decoder finds is the same however the bytes are cut: once at each byte, and into single bytes. */
function check(make, text, expected) {
  const bytes = new TextEncoder().encode(text);
  assert.deepEqual(feed(make(), bytes), expected, JSON.stringify(text));
  for (let cut = 0; cut <= bytes.length; cut += 1) {
    assert.deepEqual(feed(make(), bytes, cut), expected, `${JSON.stringify(text)} cut at ${cut}`);
  }
  assert.deepEqual(feed(make(), bytes, ...bytes.keys()), expected, `${JSON.stringify(text)} in single bytes`);
}

const sse = (text, expected) => check(() => new SseDecoder(), text, expected);
const block = (id, event, data) => ({ frame: { id, event, data } });

test("event streams are read by the rules, wherever they are cut", () => {
  sse(": segue\nretry: 2000\n\nid: r:1\nevent: a\ndata: {}\n\n", [{ retry: 2000 }, block("r:1", "a", "{}")]);
  sse("data: a\ndata:b\ndata:  c\n\n", [block(null, "", "a\nb\n c")]);
  sse("id: 1\r\ndata: x\r\n\r\nid: 2\rdata: y\r\rdata: z\n\n", [
    block("1", "", "x"), block("2", "", "y"), block(null, "", "z"),
  ]);
  sse("\ufeffdata: \u00e4\u20ac\u{1f3b5}\n\n", [block(null, "", "\u00e4\u20ac\u{1f3b5}")]);
  sse("id: 7\n\nid\n\ndata\n\n", [block("7", "", null), block("", "", null), block(null, "", "")]);
  sse("id: a\0b\nretry: 1x\nfield: y\nevent: e\ndata: x\n\n", [block(null, "e", "x")]);
  sse(": hb\n\n: hb\n\nevent: only\n\n", []);
  sse("data: whole\n\ndata: cut off", [block(null, "", "whole")]);
});

test("a frame has an end", () => {
  const decoder = new SseDecoder(100);
  const bytes = new TextEncoder().encode("data: 0123456789\n\n".repeat(50));
  assert.equal(feed(decoder, bytes).length, 50);
  assert.throws(() => feed(decoder, new TextEncoder().encode("data: " + "x".repeat(100))), ProtocolError);
});

test("lines are read wherever they are cut", () => {
  const lines = (text, expected) => check(() => new LineDecoder(), text, expected);
  lines('{"a":1}\n\n  \n{"b":"\u00e4\u{1f3b5}"}\r\n3\n', [{ a: 1 }, { b: "\u00e4\u{1f3b5}" }, 3]);
  lines('{"a":1}\n{"cut', [{ a: 1 }]);
  lines("", []);
  assert.throws(() => new LineDecoder().push(new TextEncoder().encode("{\n")), ProtocolError);
});

test("delays double to the longest, start over, and are no shorter than the server asks for", () => {
  const backoff = new Backoff({ first: 250, max: 10_000, maxHint: 60_000, jitter: (delay) => delay });
  const delays = (count) => Array.from({ length: count }, () => backoff.fail());
  assert.deepEqual(delays(7), [250, 500, 1000, 2000, 4000, 8000, 10_000]);
  assert.equal(backoff.attempt, 7);
  backoff.succeed();
  backoff.hint(800);
  assert.deepEqual(delays(3), [800, 800, 1000]);
  assert.equal(backoff.fail(5000), 5000);
  backoff.hint(3_600_000);
  assert.equal(backoff.fail(), 60_000);
});

const SAID = { id: null, event: "", data: "{}" };
const control = (type, fields = {}, id = null) => ({ ...SAID, id, data: JSON.stringify({ type, ...fields }) });
const gap = control("control.gap");
const snapshot = (seq) => control("control.snapshot", { seq }, `r:${seq}`);
const said = (seq) => ({ id: `r:${seq}`, event: "text.delta", data: JSON.stringify(event(seq)) });
const onlyId = (seq) => ({ id: `r:${seq}`, event: "", data: null });

/** What a place gives for a frame: a seq, a word, or null. */
function step(place, frame) {
  try {
    const item = place.take(frame);
    if (item === null) return null;
    return item.type === "control.gap" ? "gap" : item.type === "control.snapshot" ? `s${item.seq}` : item.seq;
  } catch (error) {
    assert.ok(error instanceof ProtocolError, error);
    return "broken";
  }
}

function follows(begin, frames) {
  const place = new Place("r", begin);
  const found = frames.map(([frame]) => step(place, frame));
  assert.deepEqual(found, frames.map(([, expected]) => expected));
  return place;
}

test("each event is given once and in order, and no hole is passed over", () => {
  const place = follows({ after: "r:4" }, [
    [onlyId(4), null], [said(4), null], [said(5), 5], [said(5), null], [said(7), "broken"], [said(6), 6],
  ]);
  assert.deepEqual(place.connect(), { query: {}, headers: { "last-event-id": "r:6" } });
  follows({}, [[said(2), "broken"], [onlyId(1), "broken"], [said(1), 1]]);
});

test("a gap that was told may be passed over once, and gives nothing twice", () => {
  follows({ after: "r:4" }, [[said(5), 5], [gap, "gap"], [said(4), null], [said(9), 9], [said(11), "broken"]]);
  follows({ after: "r:100" }, [[gap, "gap"], [snapshot(7), "s7"], [said(8), 8], [said(8), null]]);
  follows({ after: "r:4" }, [[said(5), 5], [gap, "gap"], [snapshot(2), "s2"], [said(3), 3]]);
  const place = follows({ after: "r:4" }, [[gap, "gap"]]);
  place.connect();
  assert.equal(step(place, said(9)), "broken", "a gap of an earlier connection is over");
});

test("where one begins, and what the next connection asks for", () => {
  const asks = (begin, frames = []) => follows(begin, frames).connect();
  assert.deepEqual(asks({}), { query: {}, headers: {} });
  assert.deepEqual(asks({ from: "start" }), { query: {}, headers: {} });
  assert.deepEqual(asks({ after: "r:4" }), { query: { after: "r:4" }, headers: {} });
  assert.deepEqual(asks({ from: "last:3" }), { query: { from: "last:3" }, headers: {} });
  const resumed = (seq) => ({ query: {}, headers: { "last-event-id": `r:${seq}` } });
  assert.deepEqual(asks({ from: "tail" }, [[onlyId(9), null]]), resumed(9));
  assert.deepEqual(asks({ from: "last:3" }, [[said(7), 7], [said(9), "broken"]]), resumed(7));
  assert.deepEqual(asks({ from: "snapshot" }, [[snapshot(5), "s5"], [said(6), 6]]), resumed(6));
  for (const begin of [{ after: "other:3" }, { after: "r:x" }, { after: "r:1", from: "tail" }]) {
    assert.throws(() => new Place("r", begin), TypeError);
  }
});

test("what is not of this run is refused and moves nothing", () => {
  const lying = { ...said(5), data: JSON.stringify(event(6)) };
  const frames = [{ ...said(5), id: "other:5" }, { ...said(5), id: null }, lying, { ...said(5), data: "{" }, SAID];
  for (const frame of frames) follows({ after: "r:4" }, [[frame, "broken"], [said(5), 5]]);
  follows({ after: "r:4" }, [[control("control.news"), null], [control("control.later", {}, "r:7"), null], [said(8), 8]]);
});

test("whatever comes, what is given rises by one unless a gap was told", () => {
  const seed = Math.floor(Math.random() * 2 ** 32);
  console.log("seed", seed);
  const below = random(seed);
  for (let round = 0; round < 500; round += 1) {
    const place = new Place("r", { after: "r:2" });
    let [last, told] = [2, false];
    for (let n = 0; n < 40; n += 1) {
      const seq = below(12);
      const kind = [gap, onlyId(seq), snapshot(seq), said(seq), said(seq)][below(5)];
      const given = step(place, kind);
      if (given === "gap") told = true;
      if (typeof given === "string" && given.startsWith("s")) [last, told] = [seq, false];
      if (typeof given !== "number") continue;
      assert.ok(given === last + 1 || told, `${given} after ${last}`);
      [last, told] = [given, false];
    }
  }
});

test("every line arrives once and in order, wherever cuts and acknowledgements fall", () => {
  const seed = Math.floor(Math.random() * 2 ** 32);
  console.log("seed", seed);
  const below = random(seed);
  for (let round = 0; round < 300; round += 1) {
    const outbox = new Outbox();
    const got = [];
    for (let n = 0; n < 60; n += 1) {
      if (below(2)) outbox.push(String(outbox.end));
      const batch = outbox.batch(1 + below(12));
      if (!batch) continue;
      // The server takes as much as arrives, and knows what it has; its answer may be lost.
      const lines = batch.body.split("\n").slice(0, batch.end - batch.first);
      lines.slice(0, below(lines.length + 1)).forEach((line, index) => {
        if (batch.first + index === got.length) got.push(line);
      });
      if (below(2)) outbox.acked(got.length - 1, batch);
    }
    assert.deepEqual(got, Array.from(got.keys(), String));
    assert.ok(outbox.first <= got.length && got.length <= outbox.end);
  }
});

test("every code of the wire is known, and the statuses that pass are told from those that stay", async () => {
  const wire = await readFile(new URL("../../../docs/wire.md", import.meta.url), "utf8");
  const table = wire.slice(wire.indexOf("## Codes"));
  const rows = [...table.matchAll(/^\| `([a-z_]+)` \| ([0-9]{3}) \|/gm)];
  const types = await readFile(new URL("./errors.d.ts", import.meta.resolve("segue-client")), "utf8");
  const union = /type ProblemCode = (.*?);/s.exec(types)[1];
  const known = [...union.matchAll(/"([a-z_]+)"/g)].map(([, code]) => code);
  assert.deepEqual(known.sort(), rows.map(([, code]) => code).sort());
  for (const [, code, status] of rows) {
    const error = new ProblemError(Number(status), { code, detail: "why", run_id: "r" });
    assert.equal(error.passing, Number(status) >= 500 && code !== "corrupt", code);
    assert.deepEqual([error.message, error.members], [`why (${code})`, { run_id: "r" }]);
  }
});

test("an answer that is no problem document still makes a problem", async () => {
  for (const body of ["", "<html>", "[]", "null", '"x"', "{}"]) {
    const error = await ProblemError.from(new Response(body, { status: 502, headers: { "retry-after": "3" } }));
    assert.deepEqual([error.code, error.passing, error.retryAfter], ["http_502", true, 3000], body);
  }
  const busy = new ProblemError(409, { code: "session_busy", run_id: "r9" });
  assert.ok(isProblem(busy, "not_found", "session_busy"));
  assert.equal(isProblem(busy, "not_found"), false);
  assert.equal(isProblem(new Error("x"), "not_found"), false);
});

test("terminals and own types", () => {
  assert.equal(frame(1).split("\n").length, 5);
  const types = ["run.finished", "run.stopped", "run.failed", "run.interrupted", "run.started", "run.finished.x"];
  assert.deepEqual(types.map((type) => isTerminal({ type })), [true, true, true, true, false, false]);
  assert.deepEqual(opaque("my.type", { a: 1 }), { type: "my.type", a: 1 });
});
