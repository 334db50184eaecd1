// The server under plain `fetch`: lines instead of frames, pages, appends, refusals.

import assert from "node:assert/strict";
import test from "node:test";

import { Server, textOf } from "../support.mjs";

const FAST = { agent: "demo", params: { speed: 0 } };

async function linesOf(answer) {
  const text = await answer.text();
  return text.split("\n").filter((line) => line).map((line) => JSON.parse(line));
}

const get = (url, accept, headers = {}) => fetch(url, { headers: { accept, ...headers } });

test("lines are the same events as the page", async (t) => {
  const server = await Server.start(t);
  const run = await server.start("s", FAST);
  const events = `${server.url}/v1/runs/${run.id}/events`;
  const lines = await linesOf(await get(events, "application/x-ndjson"));
  assert.deepEqual(lines, await server.journal(run.id));
  assert.equal(lines.at(-1).type, "run.finished");
});

test("f06 at every event a Last-Event-ID goes on at the next one", async (t) => {
  const server = await Server.start(t);
  const run = await server.start("s", FAST);
  const events = `${server.url}/v1/runs/${run.id}/events`;
  const all = await linesOf(await get(events, "application/x-ndjson"));
  for (const { seq } of all) {
    const header = { "last-event-id": `${run.id}:${seq}` };
    const rest = await linesOf(await get(events, "application/x-ndjson", header));
    assert.deepEqual(rest, all.slice(seq), `after ${seq}`);
  }
});

test("f07 the final cursor is answered 204 with what became of the run", async (t) => {
  const server = await Server.start(t);
  const run = await server.start("s", FAST);
  const all = await linesOf(
    await get(`${server.url}/v1/runs/${run.id}/events`, "application/x-ndjson"),
  );
  const header = { "last-event-id": `${run.id}:${all.length}` };
  const answer = await get(`${server.url}/v1/runs/${run.id}/events`, "text/event-stream", header);
  assert.equal(answer.status, 204);
  assert.equal(answer.headers.get("segue-run-status"), "finished");
  assert.equal(answer.headers.get("segue-last-seq"), String(all.length));
});

test("p03 the head of a stream comes at once and says that nothing may hold it up", async (t) => {
  const server = await Server.start(t);
  const run = await server.start("s", { agent: "push" });
  const answer = await get(`${server.url}/v1/runs/${run.id}/events`, "text/event-stream");
  assert.equal(answer.status, 200);
  assert.equal(answer.headers.get("content-type"), "text/event-stream");
  assert.equal(answer.headers.get("cache-control"), "no-cache, no-transform");
  assert.equal(answer.headers.get("x-accel-buffering"), "no");
  const { value } = await answer.body.getReader().read();
  assert.match(new TextDecoder().decode(value), /^: .*\nretry: \d+\n\n/);
});

test("a body of lines is journaled with one answer at its end", async (t) => {
  const server = await Server.start(t);
  const run = await server.start("s", { agent: "push" });
  const words = Array.from({ length: 500 }, (_, index) => `${index} `);
  const body = words.map((text) => JSON.stringify({ type: "text.delta", part: "p", text }));
  const answer = await fetch(`${server.url}/v1/runs/${run.id}/events`, {
    method: "POST",
    headers: { "content-type": "application/x-ndjson", prefer: "ack=final" },
    body: body.join("\n") + '\n\n{"type":"run.finished"}\n',
  });
  const [ack, ...more] = await linesOf(answer);
  assert.deepEqual(more, []);
  const journal = await server.journal(run.id);
  assert.equal(ack.last_seq, journal.length);
  assert.equal(textOf(journal), words.join(""));
});

test("a retry under the same producer number is answered as the first time", async (t) => {
  const server = await Server.start(t);
  const run = await server.start("s", { agent: "push" });
  const send = (seq) =>
    server.post(`/v1/runs/${run.id}/events`, { type: "data", name: "n", value: seq }, {
      "producer-id": "p", "producer-epoch": "0", "producer-seq": String(seq),
    });
  const first = await (await send(0)).json();
  await server.kill();
  await server.again();
  const again = await (await send(0)).json();
  assert.deepEqual(again, { ...first, duplicate: true });
});

test("q01 an error of the producer is one frame, the same for everyone", async (t) => {
  const server = await Server.start(t);
  const run = await server.start("s", { agent: "push" });
  const error = { code: "upstream_down", message: "no answer" };
  await server.append(run.id, [{ type: "run.failed", error }]);
  const events = `${server.url}/v1/runs/${run.id}/events`;
  const [first, second] = [await get(events, "text/event-stream"), await get(events, "text/event-stream")];
  const text = await first.text();
  assert.equal(await second.text(), text);
  assert.equal(text.match(/^event: run\.failed$/gm).length, 1);
  assert.ok(text.includes("upstream_down"));
  assert.equal((await server.run(run.id)).status, "failed");
});
