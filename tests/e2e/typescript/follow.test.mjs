// Following runs: cuts at any byte, killed servers, gaps, ends.

import assert from "node:assert/strict";
import test from "node:test";

import { Client, ConnectionError, ProtocolError, isProblem } from "segue-client";

import { Server, cutter, random, textOf, until } from "../support.mjs";
import { QUICK, all, event, frame, scripted, stream } from "./support.mjs";

const FAST = { agent: "demo", params: { speed: 0 } };
const quick = (url) => new Client(url, { timing: QUICK });

/** A demo run that has ended. */
async function ended(server, client = new Client(server.url)) {
  const { id } = await client.start("s", FAST);
  assert.equal((await client.finished(id)).status, "finished");
  return id;
}

for (const seed of [1, 2, Math.floor(Math.random() * 2 ** 32)]) {
  test(`each event comes once over cuts at any byte, seed ${seed}`, async (t) => {
    const server = await Server.start(t);
    const below = random(seed);
    const url = await cutter(t, server, () => below(6000));
    const drops = [];
    const run = await new Client(server.url).start("s", { ...FAST, params: { speed: 60 } });
    const follow = quick(url).follow(run.id, { onReconnect: (drop) => drops.push(drop) });
    assert.deepEqual(await all(follow), await server.journal(run.id));
    assert.ok(drops.length > 2, `${drops.length} drops`);
    assert.ok(drops.every(({ error, delay }) => error instanceof ConnectionError && delay > 0));
    assert.equal(follow.ended.status, "finished");
  });
}

test("three followers over cuts and a late one see the same", async (t) => {
  const server = await Server.start(t);
  const below = random(7);
  const url = await cutter(t, server, () => 500 + below(9000));
  const { id } = await quick(server.url).start("s", { ...FAST, params: { speed: 20 } });
  const three = Array.from({ length: 3 }, () => all(quick(url).follow(id)));
  await until("half of it was said", async () => (await server.run(id)).last_seq > 120);
  const late = await all(quick(url).follow(id));
  const journal = await server.journal(id);
  for (const seen of [...(await Promise.all(three)), late]) assert.deepEqual(seen, journal);
});

test("a killed server is a drop like any other", async (t) => {
  const server = await Server.start(t);
  const client = quick(server.url);
  const { id } = await client.start("s", { agent: "demo", params: { speed: 4 } });
  let drops = 0;
  const seen = all(client.follow(id, { onReconnect: () => (drops += 1) }));
  await until("some was said", async () => (await server.run(id)).last_seq > 20);
  await server.kill();
  await until("the drop was seen", () => drops > 1);
  await server.again();
  const journal = await server.journal(id);
  assert.equal(journal.at(-1).type, "run.interrupted");
  assert.deepEqual(await seen, journal);
});

test("a run that outlives a killed server is followed through it", async (t) => {
  const server = await Server.start(t);
  const client = quick(server.url);
  const { id } = await client.start("s", { agent: "push", on_restart: "await" });
  await client.append(id, { type: "text.delta", part: "p", text: "before " });
  const follow = client.follow(id);
  await until("it was seen", async () => textOf([(await follow.next()).value]) === "before ");
  const rest = all(follow);
  await server.kill();
  await server.again();
  await client.append(id, [{ type: "text.delta", part: "p", text: "after" }, { type: "run.finished" }]);
  assert.equal(textOf(await rest), "after");
  assert.deepEqual((await rest).map(({ seq }) => seq), (await server.journal(id)).map(({ seq }) => seq).slice(-3));
});

test("one begins after any event, and goes on elsewhere with the cursor", async (t) => {
  const server = await Server.start(t);
  const run = await ended(server);
  const client = new Client(server.url);
  const journal = await server.journal(run);
  for (const after of [0, 1, 100, journal.length - 1]) {
    assert.deepEqual(await all(client.follow(run, { after: `${run}:${after}` })), journal.slice(after));
  }
  const first = client.follow(run);
  assert.equal(first.cursor, null);
  const seen = [];
  for await (const event of first) {
    seen.push(event);
    assert.equal(first.cursor, `${run}:${event.seq}`);
    if (event.seq === 50) break;
  }
  assert.deepEqual(await all(first), [], "who left gets nothing more");
  const rest = await all(client.follow(run, { after: first.cursor }));
  assert.deepEqual([...seen, ...rest], journal);
});

test("one begins at the tail, the last events or the message so far", async (t) => {
  const server = await Server.start(t);
  const client = new Client(server.url);
  const run = await ended(server);
  const journal = await server.journal(run);
  assert.deepEqual(await all(client.follow(run, { from: "last:3" })), journal.slice(-3));
  assert.deepEqual(await all(client.follow(run, { from: "last:9999" })), journal);
  assert.deepEqual(await all(client.follow(run, { from: "start" })), journal);
  const [snapshot, ...rest] = await all(client.follow(run, { from: "snapshot" }));
  assert.equal(snapshot.type, "control.snapshot");
  assert.equal(snapshot.message.parts.filter(({ type }) => type === "text").length, 1);
  assert.deepEqual(rest, journal.slice(snapshot.seq));
  const { id } = await client.start("s", { agent: "push" });
  const tail = client.follow(id, { from: "tail" });
  const next = tail.next();
  await until("it is there", async () => (await client.session("s")).clients > 0);
  await client.append(id, [{ type: "text.delta", part: "p", text: "new" }, { type: "run.finished" }]);
  assert.equal((await next).value.type, "text.start");
  assert.deepEqual((await all(tail)).map(({ type }) => type), ["text.delta", "text.end", "run.finished"]);
});

test("who has it all gets no event and how it ended", async (t) => {
  const server = await Server.start(t);
  const client = new Client(server.url);
  const run = await ended(server);
  const { last_seq } = await client.run(run);
  const follow = client.follow(run, { after: `${run}:${last_seq}` });
  assert.deepEqual(await all(follow), []);
  assert.deepEqual(follow.ended, { status: "finished", reason: "stop", last_seq });
});

test("a stop by another client ends it with the terminal", async (t) => {
  const server = await Server.start(t);
  const { id } = await new Client(server.url).start("s", { agent: "demo", params: { speed: 1 } });
  const follow = new Client(server.url).follow(id);
  const seen = all(follow);
  await until("some was said", async () => (await server.run(id)).last_seq > 3);
  assert.deepEqual(await new Client(server.url).stop(id, { wait: 20 }), { stopped: true, status: "stopped" });
  assert.equal((await seen).at(-1).type, "run.stopped");
  assert.deepEqual(await seen, await server.journal(id));
  assert.deepEqual(follow.ended, { status: "stopped", reason: "user", last_seq: (await seen).length });
});

test("a cursor that the run does not have, and a run that nobody has, are errors", async (t) => {
  const server = await Server.start(t);
  const client = new Client(server.url);
  const run = await ended(server);
  const ahead = all(client.follow(run, { after: `${run}:100000` }));
  await assert.rejects(ahead, (error) => isProblem(error, "cursor_ahead") && error.members.last_seq > 100);
  await assert.rejects(all(client.follow("nobody")), (error) => isProblem(error, "not_found"));
  assert.throws(() => client.follow(run, { after: "other:1" }), TypeError);
});

test("an abort gives its reason, following or waiting to go on; leaving is an end", async (t) => {
  const server = await Server.start(t);
  const client = new Client(server.url);
  const { id } = await client.start("s", { agent: "push" });
  const [one, two] = [new AbortController(), new AbortController()];
  const following = all(client.follow(id, { signal: one.signal }));
  await until("it is there", async () => (await client.session("s")).clients > 0);
  one.abort(new Error("enough"));
  await assert.rejects(following, /enough/);
  const left = client.follow(id);
  await left.next();
  const pending = left.next();
  await left.return();
  assert.deepEqual(await pending, { done: true, value: undefined });
  let waits = false;
  const waiting = all(client.follow(id, { signal: two.signal, onReconnect: () => (waits = true) }));
  await server.kill();
  await until("it waits", () => waits);
  two.abort(new Error("enough of that"));
  await assert.rejects(waiting, /enough of that/);
});

const END = frame(3, "run.finished", { message_id: "m", status: "finished" });

test("an early end, a drain, repeated events and passing refusals are drops with waits that grow", async (t) => {
  const answers = [
    (response) => stream(response, frame(1) + "id: r:2\ndata: half"),
    (response) => stream(response, ": segue\nretry: 3\n\nid: r:1\n\n"),
    (response) => response.writeHead(503, { "content-type": "application/problem+json" }).end('{"code":"retry"}'),
    (response) => stream(response, frame(1)),
    (response) => response.destroy(),
    (response) => stream(response, frame(3)),
    (response) => stream(response, frame(1) + frame(2)),
    (response) => stream(response, END),
  ];
  const server = await scripted(t, (n, _, response) => answers[n](response));
  const drops = [];
  const follow = quick(server.url).follow("r", { onReconnect: (drop) => drops.push(drop) });
  assert.deepEqual((await all(follow)).map(({ seq }) => seq), [1, 2, 3]);
  assert.deepEqual(server.requests.map(({ headers }) => headers["last-event-id"]),
    [undefined, ...Array(6).fill("r:1"), "r:2"]);
  assert.ok(server.requests.every(({ url }) => url === "/v1/runs/r/events"));
  // What brought no new event is a failure more in a row; the server's hint is the least.
  assert.deepEqual(drops.map(({ attempt }) => attempt), [1, 2, 3, 4, 5, 6, 1]);
  assert.deepEqual(drops.map(({ delay }) => delay), [1, 3, 4, 8, 8, 8, 3]);
});

test("a gap is told, then what there is, and nothing twice", async (t) => {
  const gap = 'event: control.gap\ndata: {"type":"control.gap","run_id":"r","why":"trimmed","from_seq":1}\n\n';
  const snapshot = 'id: r:7\nevent: control.snapshot\ndata: {"type":"control.snapshot","seq":7,"message":{}}\n\n';
  const end = frame(8, "run.stopped", { status: "stopped", reason: "user", message_id: "m" });
  const answers = [frame(1), gap, gap + snapshot + frame(7), end];
  const server = await scripted(t, (n, _, response) => stream(response, answers[n]));
  const attempts = [];
  const seen = await all(quick(server.url).follow("r", { onReconnect: ({ attempt }) => attempts.push(attempt) }));
  assert.deepEqual(attempts, [1, 2, 1], "a gap alone is no news");
  assert.deepEqual(seen.map(({ type }) => type),
    ["text.delta", "control.gap", "control.gap", "control.snapshot", "run.stopped"]);
  assert.equal(server.requests[3].headers["last-event-id"], "r:7");
});

test("a silent connection is lost", async (t) => {
  const answers = [
    (response) => stream(response, frame(1), true),
    () => {},
    (response) => stream(response, frame(2) + END),
  ];
  const server = await scripted(t, (n, _, response) => answers[n](response));
  const client = new Client(server.url, { timing: { ...QUICK, idle: 50 } });
  const errors = [];
  const seen = await all(client.follow("r", { onReconnect: ({ error }) => errors.push(error.message) }));
  assert.deepEqual(seen.map(({ seq }) => seq), [1, 2, 3]);
  assert.deepEqual(errors, Array(2).fill("nothing came for 50 ms"));
});

test("what will not change is an error at once, and patience can have an end", async (t) => {
  const answers = {
    "/html/v1/runs/r/events": (response) => response.writeHead(200, { "content-type": "text/html" }).end("<html>"),
    "/gone/v1/runs/r/events": (response) => response.writeHead(410).end('{"code":"cursor_trimmed"}'),
    "/away/v1/runs/r/events": (response) => response.writeHead(502).end(),
  };
  const server = await scripted(t, (_, { url }, response) => answers[url](response));
  const follow = (place, timing = QUICK) => all(new Client(`${server.url}${place}/`, { timing }).follow("r"));
  await assert.rejects(follow("/html"), (error) => error instanceof ProtocolError && !error.passing);
  await assert.rejects(follow("/gone"), (error) => isProblem(error, "cursor_trimmed"));
  assert.equal(server.requests.length, 2);
  await assert.rejects(follow("/away", { ...QUICK, giveUp: 100 }), { code: "http_502" });
  assert.ok(server.requests.length > 4);
});

test("calls of next stand in line, and heads are those that were asked for", async (t) => {
  const server = await scripted(t, (_, __, response) => stream(response, frame(1) + frame(2) + END));
  const client = new Client(server.url, { token: "secret", headers: { "x-mine": "1" } });
  const follow = client.follow("r", { after: "r:0" });
  const three = await Promise.all([follow.next(), follow.next(), follow.next(), follow.next()]);
  assert.deepEqual(three.map(({ value }) => value?.seq), [1, 2, 3, undefined]);
  assert.deepEqual(three[0].value, event(1));
  const [{ url, headers }] = server.requests;
  assert.equal(url, "/v1/runs/r/events?after=r%3A0");
  assert.deepEqual([headers.authorization, headers["x-mine"], headers.accept], ["Bearer secret", "1", "text/event-stream"]);
});
