// The server under a standard EventSource, which knows nothing of Segue.

import assert from "node:assert/strict";
import test from "node:test";

import { EventSource } from "eventsource";

import { Server, cutter, random, textOf, until } from "../support.mjs";

const FAST = { agent: "demo", params: { speed: 0 } };
/** Takes some seconds, so that something can happen to it. */
const SLOW = { agent: "demo", params: { speed: 4 } };

/** Collects every frame of a run, with its id, through as many connections as it takes. */
function follow(t, url, run, query = "?event=none") {
  const seen = { events: [], ids: [], errors: 0 };
  const source = new EventSource(`${url}/v1/runs/${run}/events${query}`);
  t.after(() => source.close());
  source.onmessage = (message) => {
    seen.events.push(JSON.parse(message.data));
    seen.ids.push(message.lastEventId);
  };
  source.onerror = () => (seen.errors += 1);
  seen.source = source;
  seen.closed = () => until("it is closed", () => source.readyState === EventSource.CLOSED);
  return seen;
}

test("f07 an EventSource gets a whole run and is told to stay away by a 204", async (t) => {
  const server = await Server.start(t);
  const run = await server.start("s", FAST);
  const seen = follow(t, server.url, run.id);
  await seen.closed();
  assert.deepEqual(seen.events, await server.journal(run.id));
  assert.equal(seen.events.at(-1).type, "run.finished");
  assert.deepEqual(seen.ids, seen.events.map((event) => `${run.id}:${event.seq}`));
});

test("f17 an EventSource that is cut again and again sees each event once", async (t) => {
  const seed = 20261120;
  t.diagnostic(`seed ${seed}`);
  const below = random(seed);
  const server = await Server.start(t, { SEGUE_HEARTBEAT_S: "1" });
  const run = await server.start("s", FAST);
  await until("it has ended", async () => (await server.run(run.id)).ended_at);
  let cuts = 0;
  // The first frame after a cut must fit, or the client would not come on.
  const url = await cutter(t, server, () => (cuts++ < 5 ? 2_000 + below(6_000) : Infinity));
  const seen = follow(t, url, run.id);
  await seen.closed();
  assert.ok(cuts > 3, `${cuts} connections`);
  assert.deepEqual(seen.events, await server.journal(run.id));
});

test("f05 an EventSource that begins at a cursor begins with the next event", async (t) => {
  const server = await Server.start(t);
  const run = await server.start("s", FAST);
  await until("it has ended", async () => (await server.run(run.id)).ended_at);
  const seen = follow(t, server.url, run.id, `?event=none&after=${run.id}:7`);
  await seen.closed();
  assert.deepEqual(seen.events, (await server.journal(run.id)).slice(7));
});

test("g02 a second client that joins late sees what the first one saw", async (t) => {
  const server = await Server.start(t);
  const run = await server.start("s", { agent: "push" });
  const first = follow(t, server.url, run.id);
  await server.append(run.id, [{ type: "text.delta", part: "p", text: "one " }]);
  await until("the first client has it", () => textOf(first.events) === "one ");
  const second = follow(t, server.url, run.id);
  await server.append(run.id, [{ type: "text.delta", part: "p", text: "one " }]);
  await server.append(run.id, [{ type: "run.finished" }]);
  await Promise.all([first.closed(), second.closed()]);
  assert.equal(textOf(first.events), "one one ");
  assert.deepEqual(second.ids, first.ids);
  assert.deepEqual(second.events, first.events);
});

test("g05 a stop from elsewhere is a normal end", async (t) => {
  const server = await Server.start(t);
  const run = await server.start("s", SLOW);
  const seen = follow(t, server.url, run.id);
  await until("text comes", () => textOf(seen.events).length > 0);
  const answer = await server.post(`/v1/runs/${run.id}/stop`, { wait: 30 });
  assert.deepEqual(await answer.json(), { stopped: true, status: "stopped" });
  await seen.closed();
  const last = seen.events.at(-1);
  assert.deepEqual([last.type, last.reason], ["run.stopped", "user"]);
  assert.deepEqual(seen.events, await server.journal(run.id));
});

test("i15 a client rides over a killed server and sees the run interrupted once", async (t) => {
  const server = await Server.start(t);
  const run = await server.start("s", SLOW);
  const seen = follow(t, server.url, run.id);
  await until("text comes", () => textOf(seen.events).length > 20);
  await server.kill();
  const before = seen.events.length;
  await server.again();
  await seen.closed();
  const journal = await server.journal(run.id);
  assert.deepEqual(seen.events, journal);
  assert.ok(journal.length > before);
  const ends = journal.filter((event) => event.type.startsWith("run.") && event.seq > 1);
  assert.deepEqual(ends.map((event) => [event.type, event.cause]), [["run.interrupted", "restart"]]);
});

test("named events reach their listeners", async (t) => {
  const server = await Server.start(t);
  const run = await server.start("s", FAST);
  const source = new EventSource(`${server.url}/v1/runs/${run.id}/events`);
  t.after(() => source.close());
  let text = "";
  source.addEventListener("text.delta", (event) => (text += JSON.parse(event.data).text));
  await until("it is closed", () => source.readyState === EventSource.CLOSED);
  assert.equal(text, textOf(await server.journal(run.id)));
});
