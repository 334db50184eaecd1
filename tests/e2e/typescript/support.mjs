// A server that says what a test tells it to, and what lies inside of the installed package.

import { once } from "node:events";
import { createServer } from "node:http";

/** Waits that a test does not notice. */
export const QUICK = { firstDelay: 1, maxDelay: 8, maxHint: 4, jitter: (delay) => delay };

/** A module of the installed package that is not exported. */
export function inside(name) {
  return import(new URL(`./${name}.js`, import.meta.resolve("segue-client")).href);
}

/** Answers the `n`th request (from 0) with `answer(n, request, response)`. Gives its URL and the requests. */
export async function scripted(t, answer) {
  const requests = [];
  const server = createServer((request, response) => {
    const { method, url, headers } = request;
    requests.push({ method, url, headers });
    answer(requests.length - 1, request, response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${server.address().port}`, requests };
}

/** Begins an event stream and says this; it ends in order unless it is to be held. */
export function stream(response, text, hold = false) {
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.write(text || ": segue\n\n");
  if (!hold) response.end();
}

/** The frame of an event of the run `r`. */
export function frame(seq, type = "text.delta", fields = { part: "p", text: `${seq} ` }) {
  return `id: r:${seq}\nevent: ${type}\ndata: ${JSON.stringify(event(seq, type, fields))}\n\n`;
}

/** An event of the run `r`. */
export function event(seq, type = "text.delta", fields = { part: "p", text: `${seq} ` }) {
  return { seq, at: "2026-11-20T12:00:00.000Z", run_id: "r", type, ...fields };
}

/** All that an async iterator gives. */
export async function all(items) {
  const found = [];
  for await (const item of items) found.push(item);
  return found;
}
