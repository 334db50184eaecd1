// A `fetch` that heals event streams: a body that breaks off goes on where it was, so that its
// reader never sees the drop. For any client that takes a `fetch` of one's own:
//
//   import { resumable } from "/segue-resume.js";
//   const fetch = resumable();
//
// It concerns answers that are `text/event-stream` and have a `Location`: where the stream goes on
// with a `Last-Event-ID`. Every other answer is passed on untouched.

/** The wait before the first, and at most before any, try to go on; in milliseconds. */
const FIRST_WAIT = 250;
const LONGEST_WAIT = 10_000;
/** How many ids are remembered, for a server that gives again what was given. */
const REMEMBERED = 10_000;
/** Statuses that may be others in a moment, besides 5xx. */
const PASSING = new Set([408, 425, 429]);
const TERMINAL = /^run\.(finished|stopped|failed|interrupted)$/;
/** What describes a request's body, which a `GET` has not. */
const OF_BODY = ["content-type", "content-length", "content-encoding", "idempotency-key"];

/**
 * Wraps a `fetch`.
 *
 * @param {typeof fetch} [inner] what makes the requests; the global one by default
 * @param {import("./segue-resume.js").ResumeOptions} [options]
 * @returns {typeof fetch}
 */
export function resumable(inner = globalThis.fetch.bind(globalThis), options = {}) {
  return async (input, init) => {
    // Read before the request is made: its body cannot be read twice, its head can.
    const request = head(input, init);
    const response = await inner(input, init);
    const place = placeOf(response);
    if (!place) return response;
    const stream = new Resumed(inner, request, place, response.body, options);
    const { status, statusText, headers } = response;
    const healed = new Response(stream.body(), { status, statusText, headers });
    return Object.defineProperty(healed, "url", { value: response.url });
  };
}

function head(input, init = {}) {
  const of = typeof input === "object" && "headers" in input ? input : {};
  const headers = new Headers(init.headers ?? of.headers);
  OF_BODY.forEach((name) => headers.delete(name));
  headers.set("accept", "text/event-stream");
  const signal = init.signal ?? of.signal;
  return { headers, signal, credentials: init.credentials ?? of.credentials };
}

/** Where the stream goes on. Never at another origin, which must not see the request's headers. */
function placeOf(response) {
  const location = response.headers.get("location");
  const type = response.headers.get("content-type") ?? "";
  if (!response.ok || !response.body || !location) return null;
  if (!type.toLowerCase().startsWith("text/event-stream")) return null;
  const place = new URL(location, response.url);
  return place.origin === new URL(response.url).origin ? place.href : null;
}

/** One stream over all its connections. */
class Resumed {
  #inner;
  #request;
  #place;
  #options;
  #leave = new AbortController();
  #reader;
  #frames = new Frames();
  #encoder = new TextEncoder();
  #last = null;
  #seen = new Set();
  /** Frames that wait for the id which stands on the last frame of an event. */
  #group = "";
  #wait = FIRST_WAIT;
  #over = false;

  constructor(inner, request, place, body, options) {
    this.#inner = inner;
    this.#request = request;
    this.#place = place;
    this.#options = options;
    this.#reader = body.getReader();
    const signal = request.signal;
    const leave = () => this.#leave.abort(signal.reason);
    if (signal?.aborted) leave();
    signal?.addEventListener("abort", leave, { signal: this.#leave.signal });
  }

  body() {
    return new ReadableStream({
      pull: (controller) => this.#pull(controller),
      cancel: (reason) => this.#cancel(reason),
    });
  }

  async #cancel(reason) {
    this.#leave.abort(reason);
    await this.#reader?.cancel(reason).catch(() => {});
  }

  /** Gives something to the reader, or ends. */
  async #pull(controller) {
    for (;;) {
      const text = this.#over ? null : await this.#next();
      if (text) return controller.enqueue(this.#encoder.encode(text));
      if (text === null) break;
    }
    controller.close();
    await this.#cancel();
  }

  /** Whole events, "" if there is none yet, or null at the end. */
  async #next() {
    try {
      const { done, value } = await this.#reader.read();
      if (!done) return this.#take(this.#frames.push(value));
    } catch (error) {
      this.#leave.signal.throwIfAborted();
      this.#options.onDrop?.({ lastEventId: this.#last, error });
      return this.#goOn();
    }
    this.#options.onDrop?.({ lastEventId: this.#last, error: null });
    return this.#goOn();
  }

  #take(frames) {
    let text = "";
    for (const frame of frames) {
      const fields = fieldsOf(frame);
      if (fields.data === null && fields.id === null) {
        text += frame;
        continue;
      }
      this.#group += frame;
      this.#over ||= isTerminal(fields);
      if (fields.id === null && !this.#over) continue;
      if (!this.#knows(fields)) text += this.#group;
      this.#group = "";
      if (this.#over) return text;
    }
    return text;
  }

  /** Notes a frame's id, and says whether its event was given before. */
  #knows({ id, event, data }) {
    if (event?.startsWith("control.")) this.#seen.clear();
    if (id === null) return false;
    this.#last = id;
    if (data === null) return false;
    if (this.#seen.has(id)) return true;
    this.#wait = FIRST_WAIT;
    this.#seen.add(id);
    if (this.#seen.size > REMEMBERED) this.#seen.delete(this.#seen.values().next().value);
    return false;
  }

  /** Connects again, however long it takes; null if there is nothing more to come. */
  async #goOn() {
    this.#group = "";
    this.#frames = new Frames();
    for (;;) {
      await pause(this.#wait, this.#leave.signal);
      this.#wait = Math.min(this.#wait * 2, LONGEST_WAIT);
      const response = await this.#connect();
      if (response === null) continue;
      if (response.status === 204) return null;
      this.#reader = response.body.getReader();
      return "";
    }
  }

  /** An answer to go on with, or null to try again. Throws what will not change. */
  async #connect() {
    const { headers, credentials } = this.#request;
    if (this.#last !== null) headers.set("last-event-id", this.#last);
    const init = { headers, credentials, signal: this.#leave.signal, cache: "no-store" };
    let response;
    try {
      response = await this.#inner(this.#place, init);
    } catch {
      this.#leave.signal.throwIfAborted();
      return null;
    }
    const type = response.headers.get("content-type") ?? "";
    const streams = response.ok && type.toLowerCase().startsWith("text/event-stream");
    if (response.status === 204 || streams) return response;
    await response.body?.cancel();
    if (response.status >= 500 || PASSING.has(response.status)) return null;
    throw new TypeError(`the stream cannot go on: ${this.#place} answered ${response.status}`);
  }
}

/** Cuts bytes into frames, each with its blank line. What is left over at a drop is no frame. */
class Frames {
  #decoder = new TextDecoder();
  #text = "";

  push(bytes) {
    // An end of a frame may lie over the border: at most three of its characters before it.
    let from = Math.max(0, this.#text.length - 3);
    this.#text += this.#decoder.decode(bytes, { stream: true });
    const frames = [];
    const blank = /\r?\n\r?\n/g;
    let start = 0;
    for (blank.lastIndex = from; blank.exec(this.#text); ) {
      frames.push(this.#text.slice(start, blank.lastIndex));
      start = blank.lastIndex;
    }
    this.#text = this.#text.slice(start);
    return frames;
  }
}

function fieldsOf(frame) {
  const fields = { id: null, event: null, data: null };
  for (const line of frame.split(/\r?\n/)) {
    const [, name, value] = /^(id|event|data)(?:: ?(.*))?$/s.exec(line) ?? [];
    if (!name) continue;
    const text = value ?? "";
    fields[name] = name === "data" && fields.data !== null ? `${fields.data}\n${text}` : text;
  }
  return fields;
}

/** By the name of the event; by its type where frames have no names; or `[DONE]`. */
function isTerminal({ event, data }) {
  if (event !== null) return TERMINAL.test(event);
  if (data === "[DONE]") return true;
  if (!data?.includes('"run.')) return false;
  try {
    return TERMINAL.test(JSON.parse(data).type);
  } catch {
    return false;
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const left = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", left);
      resolve();
    }, milliseconds);
    signal.addEventListener("abort", left, { once: true });
  });
}
