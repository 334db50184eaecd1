// Producing: each event journaled once, whatever happens to requests, answers and the server.

import assert from "node:assert/strict";
import test from "node:test";

import { Client, ClosedError, RefusedEventError, StopRequested, isProblem } from "segue-client";

import { Server, cutter, random, textOf, until } from "../support.mjs";
import { QUICK, all, scripted, stream } from "./support.mjs";

const quick = (url) => new Client(url, { timing: QUICK });
const delta = (number) => ({ type: "text.delta", part: "p", text: `${number} ` });
const numbers = (count) => Array.from({ length: count }, (_, number) => `${number} `).join("");
const start = (server, more = {}) => new Client(server.url).start("s", { agent: "push", policy: "parallel", ...more });

/** The journal has these numbers, each once and in order, and nothing after its terminal. */
async function check(server, run, count, last = "run.finished") {
  const journal = await server.journal(run);
  assert.equal(textOf(journal), numbers(count));
  assert.deepEqual(journal.map(({ seq }) => seq), Array.from(journal.keys(), (index) => index + 1));
  assert.equal(journal.at(-1).type, last);
}

for (const seed of [1, 2, Math.floor(Math.random() * 2 ** 32)]) {
  test(`each event is journaled once over cut requests and answers, seed ${seed}`, async (t) => {
    const server = await Server.start(t);
    const below = random(seed);
    const url = await cutter(t, server, () => 50 + below(1200), () => 200 + below(9000));
    const { id } = await start(server);
    let lost = 0;
    const producer = quick(url).produce(id, { onReconnect: () => (lost += 1) });
    for (let number = 0; number < 600; number += 1) {
      const sent = producer.send(delta(number));
      if (below(20) === 0) assert.ok((await sent).events >= number);
    }
    const { events, last_seq } = await producer.finish({ usage: { output: 600 } });
    assert.equal(events, 601);
    await check(server, id, 600);
    assert.equal((await server.run(id)).last_seq, last_seq);
    assert.ok(lost > 1, `${lost} lost`);
  });
}

test("a producer goes on over a killed server, and so does who follows it", async (t) => {
  const server = await Server.start(t);
  const client = quick(server.url);
  const { id } = await start(server, { on_restart: "await" });
  const seen = all(client.follow(id));
  let lost = 0;
  const producer = client.produce(id, { onReconnect: () => (lost += 1) });
  for (let number = 0; number < 200; number += 1) {
    const sent = producer.send(delta(number));
    if (number % 50 !== 49) continue;
    if (number === 99) {
      await server.kill();
      await until("something was lost", () => lost > 0);
      await server.again();
    }
    await sent;
  }
  await producer.finish();
  await check(server, id, 200);
  assert.deepEqual(await seen, await server.journal(id));
});

test("what waits for the same request goes out together and in order", async (t) => {
  const bodies = [];
  const server = await scripted(t, async (_, request, response) => {
    let body = "";
    for await (const bytes of request) body += bytes;
    bodies.push(body.split("\n").filter((line) => line !== "").length);
    const acked = Number(request.headers["producer-seq"]) + bodies.at(-1) - 1;
    response.end(`${JSON.stringify({ first_seq: 1, last_seq: 9, stop_requested: false, acked_seq: acked })}\n`);
  });
  const producer = quick(server.url).produce("r", { id: "me", epoch: 3, inbox: false });
  const sent = Array.from({ length: 500 }, (_, number) => producer.send(delta(number)));
  assert.deepEqual((await sent[0]).events, 1);
  assert.deepEqual(await Promise.all([...sent, producer.send()]).then((all) => all.at(-1).events), 500);
  assert.deepEqual(bodies, [1, 499]);
  const [first, second] = server.requests.map(({ headers }) => headers);
  assert.deepEqual([first["producer-id"], first["producer-epoch"], first["producer-seq"]], ["me", "3", "0"]);
  assert.equal(second["producer-seq"], "1");
  assert.equal(first.prefer, "ack=final");
});

test("an answer without its acknowledgement is a loss, with waits that grow", async (t) => {
  const ack = '{"first_seq":1,"last_seq":1,"stop_requested":false,"acked_seq":0}\n';
  const answers = ["", "\n", ack.slice(0, -1), ack];
  const server = await scripted(t, (n, _, response) => response.end(answers[n]));
  const drops = [];
  const producer = quick(server.url).produce("r", { inbox: false, onReconnect: (drop) => drops.push(drop) });
  assert.deepEqual(await producer.send(delta(0)), { events: 1, last_seq: 1 });
  assert.deepEqual(drops.map(({ delay }) => delay), [1, 2, 4]);
  assert.deepEqual(server.requests.map(({ headers }) => headers["producer-seq"]), Array(4).fill("0"));
});

test("a stop by another client is heard, and last words are taken", async (t) => {
  const server = await Server.start(t);
  const { id } = await start(server);
  const producer = new Client(server.url).produce(id);
  await producer.send(delta(0));
  const heard = new Promise((resolve) => producer.stopRequested.addEventListener("abort", resolve));
  // Accepted now; the end waits for the producer.
  assert.equal((await new Client(server.url).stop(id)).stopped, true);
  await heard;
  const { reason } = producer.stopRequested;
  assert.ok(reason instanceof StopRequested && reason.reason === "user", reason);
  await producer.send(delta(1));
  await producer.finish();
  await check(server, id, 2, "run.stopped");
});

test("without an inbox an acknowledgement tells of the stop", async (t) => {
  const server = await Server.start(t);
  const { id } = await start(server);
  const producer = new Client(server.url).produce(id, { inbox: false });
  await producer.send(delta(0));
  assert.equal(producer.stopRequested.aborted, false);
  await new Client(server.url).stop(id);
  await producer.send(delta(1));
  assert.equal(producer.stopRequested.aborted, true);
  await producer.fail({ code: "gave_up", message: "no more" });
  const [last] = (await server.journal(id)).slice(-1);
  assert.deepEqual([last.type, last.source_outcome.status], ["run.stopped", "failed"]);
});

test("an inbox gives each item once, to the end of the run", async (t) => {
  const server = await Server.start(t);
  const { id } = await start(server);
  const url = await cutter(t, server, () => 350);
  const inboxes = [quick(server.url).inbox(id), quick(url).inbox(id)];
  const firsts = inboxes.map((inbox) => inbox.next());
  await new Client(server.url).stop(id);
  for (const first of firsts) {
    const { value: item } = await first;
    assert.deepEqual([item.type, item.reason], ["stop", "user"]);
  }
  await new Client(server.url).append(id, { type: "run.finished" });
  for (const inbox of inboxes) assert.deepEqual(await all(inbox), []);
});

test("an item that comes again is passed over", async (t) => {
  const item = 'id: 1\nevent: stop\ndata: {"id":1,"type":"stop","reason":"user"}\n\n';
  const answers = [item, item + item, null];
  const server = await scripted(t, (n, _, response) =>
    answers[n] === null ? response.writeHead(204).end() : stream(response, answers[n]));
  assert.equal((await all(quick(server.url).inbox("r"))).length, 1);
  assert.deepEqual(server.requests.map(({ url }) => url.split("?")[1]), [undefined, "after=1", "after=1"]);
});

test("a quiet producer keeps the lease by its inbox", async (t) => {
  const server = await Server.start(t);
  const limits = { lease_s: 2 };
  const kept = await start(server, { limits });
  const producer = new Client(server.url).produce(kept.id);
  await producer.send(delta(0));
  for (let round = 0; round < 2; round += 1) {
    // It begins later, so that it would end later if nobody kept the other.
    const { id } = await start(server, { limits });
    assert.equal((await new Client(server.url).finished(id)).cause, "lease_lost");
  }
  await producer.send(delta(1));
  await producer.finish();
  await check(server, kept.id, 2);
});

test("an event that the server does not take is named, and those before it stay", async (t) => {
  const server = await Server.start(t);
  const { id } = await start(server);
  const producer = new Client(server.url).produce(id);
  await producer.send(delta(0));
  const sent = [delta(1), delta(2), { type: "Bad Type" }, delta(3)].map((event) => producer.send(event));
  await assert.rejects(sent[2], (error) => {
    assert.ok(error instanceof RefusedEventError);
    assert.deepEqual([error.index, error.problem.code], [3, "bad_event"]);
    return true;
  });
  await Promise.all(sent.slice(0, 2));
  await assert.rejects(sent[3], RefusedEventError);
  await assert.rejects(producer.finish(), RefusedEventError);
  assert.deepEqual(producer.journaled.events, 3);
  assert.equal(textOf(await server.journal(id)), numbers(3));
});

test("refusals of the run, of the producer's epoch and after its end are told", async (t) => {
  const server = await Server.start(t);
  const client = new Client(server.url);
  const { id } = await start(server);
  const [old, young] = [0, 1].map((epoch) => client.produce(id, { id: "p", epoch }));
  await old.send(delta(0));
  await young.send(delta(1));
  await assert.rejects(old.send(delta(2)), (error) => isProblem(error, "stale_epoch") && error.members.producer_epoch === 1);
  await young.finish();
  await assert.rejects(young.send(delta(2)), ClosedError);
  await assert.rejects(client.produce(id).send(delta(2)), (error) => isProblem(error, "run_ended"));
  await assert.rejects(client.produce("nobody").send(delta(2)), (error) => isProblem(error, "not_found"));
  await check(server, id, 2);
});

test("a producer that begins anew under its name repeats nothing", async (t) => {
  const server = await Server.start(t);
  const { id } = await start(server);
  const client = new Client(server.url);
  const first = client.produce(id, { id: "p" });
  for (let number = 0; number < 30; number += 1) await first.send(delta(number));
  first.close();
  first.close();
  const second = client.produce(id, { id: "p" });
  for (let number = 0; number < 40; number += 1) void second.send(delta(number));
  await second.finish();
  await check(server, id, 40);
});

test("closing and an abort end what waits", async (t) => {
  const server = await scripted(t, () => {});
  const leave = new AbortController();
  const [one, two] = [quick(server.url).produce("r"), quick(server.url).produce("r", { signal: leave.signal })];
  const [first, second] = [one.send(delta(0)), two.send(delta(0))];
  one.close();
  await assert.rejects(first, ClosedError);
  leave.abort(new Error("enough"));
  await assert.rejects(second, /enough/);
  await assert.rejects(two.send(delta(1)), /enough/);
});

test("one batch is atomic, and with numbers it is safe to send again", async (t) => {
  const server = await Server.start(t);
  const { id } = await start(server);
  const producer = { id: "p", epoch: 0, seq: 0 };
  const url = await cutter(t, server, () => 60);
  const batch = [delta(0), delta(1)];
  const first = await new Client(server.url).append(id, batch, { producer });
  assert.deepEqual(first, { first_seq: 2, last_seq: 4, stop_requested: false });
  const again = await new Client(server.url).append(id, batch, { producer });
  assert.deepEqual(again, { ...first, duplicate: true });
  await assert.rejects(new Client(server.url).append(id, [delta(2), { type: "Bad" }]), (error) =>
    isProblem(error, "bad_event") && error.members.index === 1);
  await assert.rejects(new Client(server.url).append(id, delta(2), { producer: { ...producer, seq: 9 } }), (error) =>
    isProblem(error, "producer_gap") && error.members.expected === 1);
  await assert.rejects(quick(url).append(id, delta(2)), { name: "ConnectionError" });
  assert.equal(textOf(await server.journal(id)), numbers(3), "sent once, its answer was cut");
});
