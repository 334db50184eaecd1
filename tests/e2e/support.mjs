// A real server for a test, and small words for what tests ask of it.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";

/** The longest that anything is waited for, in milliseconds. */
const PATIENCE = 60_000;
/** Between two looks at a condition, in milliseconds. */
const LOOK = 20;

const binary = process.env.SEGUE_BIN;
if (!binary) throw new Error("SEGUE_BIN names the segue binary");

/** A `segue serve` with a data folder of its own, gone with the test. */
export class Server {
  #child;
  #data;
  url;

  /** Starts one for the test `t`, on a free port. */
  static async start(t, settings = {}) {
    const server = new Server();
    server.#data = await mkdtemp(path.join(tmpdir(), "segue-e2e-"));
    server.settings = settings;
    t.after(async () => {
      await server.kill();
      await rm(server.#data, { recursive: true, force: true });
    });
    await server.#serve("127.0.0.1:0");
    return server;
  }

  /** The data folder. */
  get data() {
    return path.join(this.#data, "data");
  }

  async #serve(listen) {
    // Small segments: a folder has room for two of them from the first moment.
    const small = { SEGUE_SEGMENT_MIB: "4" };
    const env = { PATH: process.env.PATH, HOME: this.#data, ...small, ...this.settings };
    const args = ["serve", "--listen", listen, "--data", this.data];
    this.#child = spawn(binary, args, { env, stdio: ["ignore", "pipe", "pipe"] });
    let log = "";
    this.#child.stderr.on("data", (text) => (log += text));
    for await (const line of createInterface({ input: this.#child.stdout })) {
      const found = line.match(/^Segue is at (http:\/\/\S+)\/$/);
      if (found) {
        this.url = found[1];
        this.#child.stdout.resume();
        return;
      }
    }
    throw new Error(`the server did not come up: ${log}`);
  }

  /** Ends it with SIGKILL and waits until it is gone. */
  async kill() {
    const child = this.#child;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, "exit");
    child.kill("SIGKILL");
    await gone;
  }

  /** Starts it again, at the same address over the same data. */
  async again() {
    await this.#serve(new URL(this.url).host);
  }

  /** Starts a run; `body` as in the API. Gives the run. */
  async start(session, body) {
    const run = await this.post(`/v1/sessions/${session}/runs`, body);
    if (run.status !== 202) throw new Error(`start: ${run.status} ${await run.text()}`);
    return run.json();
  }

  /** The token of the admin scope. */
  async token() {
    return (await readFile(path.join(this.#data, "data", "admin.token"), "utf8")).trim();
  }

  /** Posts JSON. */
  post(place, body, headers = {}) {
    headers = { "content-type": "application/json", ...headers };
    return fetch(this.url + place, { method: "POST", headers, body: JSON.stringify(body) });
  }

  /** Appends events to a push run as one batch. */
  async append(run, events) {
    const answer = await this.post(`/v1/runs/${run}/events`, events);
    if (answer.status !== 200) throw new Error(`append: ${answer.status} ${await answer.text()}`);
    return answer.json();
  }

  /** The run as the API shows it. */
  async run(id) {
    return (await fetch(`${this.url}/v1/runs/${id}`)).json();
  }

  /** All events that the journal has of a run. */
  async journal(id) {
    const all = [];
    for (let after = `${id}:0`; after; ) {
      const answer = await fetch(`${this.url}/v1/runs/${id}/events?after=${after}`, {
        headers: { accept: "application/json" },
      });
      const page = await answer.json();
      all.push(...page.data);
      after = page.data.length > 0 ? page.next : null;
    }
    return all;
  }
}

/** Waits until `look` gives something true, and gives it. */
export async function until(what, look) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, LOOK));
  }
}

/** The text that a list of events says. */
export function textOf(events) {
  return events.filter((e) => e.type === "text.delta").map((e) => e.text).join("");
}

/**
 * Stands between a client and the server and cuts each connection after so many bytes of the
 * answer, or of the request; `next()` and `nextUp()` give the number for the next one, or Infinity.
 */
export async function cutter(t, server, next, nextUp = () => Infinity) {
  const { hostname, port } = new URL(server.url);
  const sockets = new Set();
  const proxy = net.createServer((client) => {
    const upstream = net.connect(Number(port), hostname);
    const ways = [[upstream, client, next()], [client, upstream, nextUp()]];
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        sockets.delete(socket);
        client.destroy();
        upstream.destroy();
      });
    }
    for (let [from, to, left] of ways) {
      from.on("data", (bytes) => {
        const part = bytes.subarray(0, left);
        left -= part.length;
        to.write(part, () => left <= 0 && to.destroy());
      });
      from.on("end", () => to.end());
    }
  });
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  t.after(() => {
    sockets.forEach((socket) => socket.destroy());
    proxy.close();
  });
  return `http://127.0.0.1:${proxy.address().port}`;
}

/** Numbers that look random and are the same for the same seed. */
export function random(seed) {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}
