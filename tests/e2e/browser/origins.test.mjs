// Pages of another origin in Chromium: let in when configured, refused when not.

import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import test from "node:test";

import { open } from "./chromium.mjs";
import { Server } from "../support.mjs";

const EMPTY = "<!doctype html><title>elsewhere</title>";

/** An origin that has one empty page. */
async function elsewhere(t) {
  const pages = http.createServer((_, answer) => {
    answer.setHeader("content-type", "text/html");
    answer.end(EMPTY);
  });
  pages.listen(0, "127.0.0.1");
  await once(pages, "listening");
  t.after(() => pages.close());
  t.after(() => pages.closeAllConnections());
  return `http://127.0.0.1:${pages.address().port}`;
}

/** In the page: starts a run over a healing fetch, then follows it with an EventSource. */
async function inPage(base) {
  const { resumable } = await import(`${base}/segue-resume.js`);
  const headers = {
    "content-type": "application/json", accept: "text/event-stream", "idempotency-key": "k",
  };
  const body = JSON.stringify({ agent: "demo", params: { speed: 0 } });
  const answer = await resumable()(`${base}/v1/sessions/s/runs`, { method: "POST", headers, body });
  const place = answer.headers.get("location");
  const text = await answer.text();
  const seen = [];
  await new Promise((resolve) => {
    const source = new EventSource(`${base}${place}?event=none`);
    source.onmessage = ({ data }) => seen.push(JSON.parse(data));
    source.onerror = () => source.readyState === EventSource.CLOSED && resolve();
  });
  const last = `${seen[0].run_id}:${seen.length}`;
  const end = await fetch(`${base}${place}`, {
    headers: { accept: "text/event-stream", "last-event-id": last },
  });
  return { text, seen, status: end.status, run: end.headers.get("segue-run-status") };
}

test("a page of a configured origin starts, follows and reads the end", async (t) => {
  const origin = await elsewhere(t);
  const server = await Server.start(t, { SEGUE_ALLOWED_ORIGINS: origin });
  const page = await open(t, origin);
  const { text, seen, status, run } = await page.evaluate(inPage, server.url);
  const journal = await server.journal(seen[0].run_id);
  assert.deepEqual(seen, journal);
  assert.equal(text.match(/^data: /gm).length, journal.length);
  assert.deepEqual([status, run], [204, "finished"]);
});

test("a page of any other origin is refused and starts nothing", async (t) => {
  const origin = await elsewhere(t);
  const server = await Server.start(t, { SEGUE_ALLOWED_ORIGINS: "https://app.example" });
  const page = await open(t, origin);
  await assert.rejects(page.evaluate(inPage, server.url), /Failed to fetch/);
  const { data } = await (await fetch(`${server.url}/v1/runs`)).json();
  assert.deepEqual(data, []);
});
