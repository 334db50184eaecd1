// `segue-resume.js` as the binary serves it, under resets, kills, aborts and the end.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";

import { EventSource } from "eventsource";

import { Server, cutter, random, textOf, until } from "../support.mjs";

const FILE = new URL("../../../clients/typescript/segue-resume.js", import.meta.url);
const FAST = { agent: "demo", params: { speed: 0 } };
const SSE = { accept: "text/event-stream" };

/** The script as a client gets it. */
async function load(server) {
  const script = await (await fetch(`${server.url}/segue-resume.js`)).text();
  return import(`data:text/javascript;base64,${Buffer.from(script).toString("base64")}`);
}

/** A `fetch` that heals, and the drops that it saw. */
async function healing(server) {
  const drops = [];
  const { resumable } = await load(server);
  return { drops, heal: resumable(fetch, { onDrop: (drop) => drops.push(drop) }) };
}

/** The events of the frames of a stream, in order. */
const eventsOf = (text) =>
  text.split("\n").filter((line) => line.startsWith("data: ")).map((line) => JSON.parse(line.slice(6)));

function post(url, body, heal, init = {}) {
  const headers = { ...SSE, "content-type": "application/json" };
  return heal(`${url}/v1/sessions/s/runs`, { method: "POST", headers, body: JSON.stringify(body), ...init });
}

test("the script that is served is the one of the package", async (t) => {
  const server = await Server.start(t);
  const answer = await fetch(`${server.url}/segue-resume.js`);
  assert.equal(answer.headers.get("content-type"), "text/javascript; charset=utf-8");
  assert.equal(await answer.text(), await readFile(FILE, "utf8"));
});

for (const seed of [1, 2, 3]) {
  test(`a start's stream is whole over cuts at any byte, seed ${seed}`, async (t) => {
    const server = await Server.start(t);
    const below = random(seed);
    // The head of the start's answer has to arrive: without it nobody knows the run.
    const url = await cutter(t, server, () => 1500 + below(6000));
    const { heal, drops } = await healing(server);
    const answer = await post(url, { ...FAST, run_id: "r" }, heal);
    assert.equal(answer.headers.get("location"), "/v1/runs/r/events");
    assert.deepEqual(eventsOf(await answer.text()), await server.journal("r"));
    assert.ok(drops.length > 1, `${drops.length} drops`);
  });
}

for (const query of ["", "?event=none"]) {
  test(`three followers at once see the same over cuts ${query}`, async (t) => {
    const server = await Server.start(t);
    const run = await server.start("s", FAST);
    await until("it has ended", async () => (await server.run(run.id)).status === "finished");
    const journal = await server.journal(run.id);
    const below = random(7);
    const url = await cutter(t, server, () => 1500 + below(9000));
    const { heal, drops } = await healing(server);
    const follow = async () => (await heal(`${url}/v1/runs/${run.id}/events${query}`, { headers: SSE })).text();
    for (const text of await Promise.all([follow(), follow(), follow()])) {
      assert.deepEqual(eventsOf(text), journal);
      assert.equal(text.includes("\nevent: "), query === "");
    }
    assert.ok(drops.length > 2);
  });
}

test("a killed server is a drop like any other", async (t) => {
  const server = await Server.start(t);
  const { heal, drops } = await healing(server);
  const answer = await post(server.url, { agent: "demo", params: { speed: 4 }, run_id: "r" }, heal);
  const text = answer.text();
  await until("some was said", async () => (await server.run("r")).last_seq > 20);
  await server.kill();
  await until("the drop was seen", () => drops.length > 0);
  await server.again();
  const journal = await server.journal("r");
  assert.equal(journal.at(-1).type, "run.interrupted");
  assert.deepEqual(eventsOf(await text), journal);
});

test("a stop by another client ends the stream with its terminal", async (t) => {
  const server = await Server.start(t);
  const { heal, drops } = await healing(server);
  const answer = await post(server.url, { agent: "push", run_id: "r" }, heal);
  assert.equal((await (await server.post("/v1/runs/r/stop", {})).json()).stopped, true);
  assert.equal(eventsOf(await answer.text()).at(-1).type, "run.stopped");
  assert.deepEqual(drops, []);
});

test("an abort ends it while it follows and while it waits to go on", async (t) => {
  const server = await Server.start(t);
  const { heal, drops } = await healing(server);
  const [following, waiting] = [new AbortController(), new AbortController()];
  const one = await post(server.url, { agent: "push", run_id: "r" }, heal, { signal: following.signal });
  const text = one.text();
  following.abort();
  await assert.rejects(text, { name: "AbortError" });
  const events = `${server.url}/v1/runs/r/events`;
  const other = await heal(events, { headers: SSE, signal: waiting.signal });
  const rest = other.text();
  await server.kill();
  await until("the drop was seen", () => drops.length > 0);
  waiting.abort();
  await assert.rejects(rest, { name: "AbortError" });
});

test("a gap's frames pass, though their ids were seen, and a 204 ends it", async (t) => {
  const { resumable } = await load(await Server.start(t));
  const frame = (id, event, data) => `${id ? `id: ${id}\n` : ""}event: ${event}\ndata: ${data}\n\n`;
  const said = frame("r:1", "text.delta", "a");
  const gap = frame(null, "control.gap", "g") + frame("r:1", "control.snapshot", "s");
  const sse = (body) =>
    new Response(body, { headers: { "content-type": "text/event-stream", location: "/next" } });
  // Given, then broken off in a frame; given again; then a gap; then over.
  const answers = [sse(said + "id: r:2\ndata: half"), sse(said), sse(gap), new Response(null, { status: 204 })];
  const asked = [];
  const inner = async (url, init) => {
    asked.push([String(url), new Headers(init?.headers).get("last-event-id")]);
    return Object.defineProperty(answers.shift(), "url", { value: "http://localhost/first" });
  };
  const answer = await resumable(inner)("http://localhost/first");
  assert.equal(await answer.text(), said + gap);
  const again = ["http://localhost/next", "r:1"];
  assert.deepEqual(asked, [["http://localhost/first", null], again, again, again]);
});

test("what will not change is an error, and what is no such stream is passed on", async (t) => {
  const server = await Server.start(t);
  const { heal } = await healing(server);
  const run = await (await heal(`${server.url}/v1/runs/nobody`)).json();
  assert.equal(run.code, "not_found");
  const { resumable } = await load(server);
  const headers = { "content-type": "text/event-stream", location: "/next" };
  const answers = [new Response("id: 1\ndata: x\n\n", { headers }), new Response("", { status: 404 })];
  const inner = async () => Object.defineProperty(answers.shift(), "url", { value: "http://localhost/" });
  await assert.rejects((await resumable(inner)("http://localhost/")).text(), /answered 404/);
});

test("the guide's EventSource sees each event once and stops for good", async (t) => {
  const server = await Server.start(t);
  const run = await server.start("s", FAST);
  const guide = await readFile(new URL("../../../docs/clients.md", import.meta.url), "utf8");
  const [, script] = guide.match(/```js eventsource\n(.*?)```/s);
  const seen = [];
  const source = new Function("EventSource", "base", "run", "show", `${script}; return source;`)(
    EventSource, server.url, run.id, (event) => seen.push(event),
  );
  t.after(() => source.close());
  await until("it stopped for good", () => source.readyState === EventSource.CLOSED);
  assert.deepEqual(seen, await server.journal(run.id));
});

test("the guide's fetch with segue-resume.js reads a run", async (t) => {
  const server = await Server.start(t);
  const guide = await readFile(new URL("../../../docs/clients.md", import.meta.url), "utf8");
  const [, script] = guide.match(/```js resume\n(.*?)```/s);
  const { resumable } = await load(server);
  const body = script.replace(/^import .*\n/m, "");
  const AsyncFunction = (async () => {}).constructor;
  let text = "";
  await new AsyncFunction("resumable", "base", "show", body)(resumable, server.url, (more) => (text += more));
  const [first] = eventsOf(text);
  assert.deepEqual(eventsOf(text), await server.journal(first.run_id));
});
