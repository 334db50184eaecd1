// Requests: what is sent, how long it is waited for, and what is tried again.

import { Backoff } from "./backoff.js";
import { ConnectionError, ProblemError, ProtocolError, SegueError } from "./errors.js";

/** The waits of a client, in milliseconds. */
export interface Timing {
  /** Before the first attempt after a loss. */
  firstDelay: number;
  /** The longest between two attempts, unless the server asks for more. */
  maxDelay: number;
  /** The longest that the server may ask for: 2 s by default, more when it is busy. */
  maxHint: number;
  /** A stream without a byte for this long is lost. Heartbeats come every 5 s by default. */
  idle: number;
  /** The longest that a plain call waits for its answer. */
  call: number;
  /** How long a plain call that may be sent again is tried; 0 sends it once. */
  retry: number;
  /** How long streams and producers try in a row before they give up. */
  giveUp: number;
  /** Turns the planned delay before an attempt into the one that is waited. */
  jitter: (delay: number) => number;
}

const DEFAULT_TIMING: Timing = {
  firstDelay: 250,
  maxDelay: 10_000,
  maxHint: 60_000,
  idle: 15_000,
  call: 60_000,
  retry: 30_000,
  giveUp: Number.POSITIVE_INFINITY,
  jitter: (delay) => delay * (1 + Math.random() / 4),
};

/** How a client talks to its server. */
export interface ClientOptions {
  /** Shown with each request. */
  token?: string | undefined;
  /** Sent with each request. */
  headers?: Record<string, string> | undefined;
  /** What makes the requests; the global `fetch` by default. */
  fetch?: typeof globalThis.fetch | undefined;
  timing?: Partial<Timing> | undefined;
}

/** A connection that was lost and is tried again; nothing is lost by it. */
export interface Reconnecting {
  /** How many attempts in a row have failed. */
  attempt: number;
  /** How long it waits before the next, in milliseconds. */
  delay: number;
  error: SegueError;
}

/** One request. */
export interface Request {
  method: "GET" | "POST" | "PATCH" | "DELETE";
  /** The segments of the path, not escaped. */
  path: readonly string[];
  query?: object | undefined;
  headers?: Record<string, string> | undefined;
  json?: unknown;
  body?: string;
  /** How long the head, and each piece of the body, may take. */
  limit: number;
}

/** A server to talk to. */
export class Http {
  readonly base: string;
  readonly timing: Timing;
  readonly #headers: Record<string, string>;
  readonly #fetch: typeof globalThis.fetch;

  constructor(base: string, { token, headers = {}, fetch, timing }: ClientOptions) {
    this.base = base.replace(/\/+$/, "");
    this.timing = { ...DEFAULT_TIMING, ...timing };
    this.#headers = token === undefined ? headers : { ...headers, authorization: `Bearer ${token}` };
    this.#fetch = fetch ?? globalThis.fetch.bind(globalThis);
  }

  /** Attempts in a row, which are given up after `giveUp` milliseconds. */
  retry(giveUp = this.timing.giveUp): Retry {
    return new Retry(this.timing, giveUp);
  }

  /**
   * Sends it and gives the answer's JSON, or undefined where there is none; again for `tries`
   * milliseconds as long as it fails in a way that passes.
   */
  call<T>(request: Request, tries: number, signal?: AbortSignal): Promise<T> {
    return this.again(tries, signal, async () => {
      const connection = await this.open(request, signal);
      const text = await connection.text();
      return (text === "" ? undefined : parse(text)) as T;
    });
  }

  /** Does it again as long as it fails in a way that passes, for so many milliseconds at most. */
  async again<T>(tries: number, signal: AbortSignal | undefined, attempt: () => Promise<T>): Promise<T> {
    const retry = this.retry(tries);
    for (;;) {
      try {
        return await attempt();
      } catch (error) {
        signal?.throwIfAborted();
        await pause(retry.fail(error).delay, signal);
      }
    }
  }

  /** Sends it and waits for the head of the answer. Throws what is no success. */
  async open(request: Request, signal?: AbortSignal): Promise<Connection> {
    const { method, headers, json } = request;
    const body = json === undefined ? request.body : JSON.stringify(json);
    const type = json === undefined ? {} : { "content-type": "application/json" };
    const connection = new Connection(request.limit, signal);
    const all = { accept: "application/json", ...this.#headers, ...type, ...headers };
    // Streams and pages change; what a browser kept of them is of no use.
    const init = { method, headers: all, body: body ?? null, cache: "no-store" } as const;
    await connection.open((signal) => this.#fetch(this.#url(request), { ...init, signal }));
    return connection;
  }

  #url({ path, query = {} }: Request): string {
    const given = Object.entries(query).filter(([, value]) => value !== undefined);
    const search = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
    return `${this.base}/${path.map(encodeURIComponent).join("/")}${search && `?${search}`}`;
  }
}

/** One answer, from its request on. */
export class Connection {
  #limit: number;
  readonly #outer: AbortSignal | undefined;
  readonly #inner = new AbortController();
  readonly #leave = (): void => this.#inner.abort(this.#outer?.reason);
  #response: Response | undefined;
  #reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  #complete = false;

  constructor(limit: number, signal?: AbortSignal) {
    this.#limit = limit;
    this.#outer = signal;
    if (signal?.aborted) this.#leave();
    signal?.addEventListener("abort", this.#leave, { once: true });
  }

  async open(send: (signal: AbortSignal) => Promise<Response>): Promise<void> {
    try {
      const response = await this.#within(() => send(this.#inner.signal));
      if (!response.ok) throw await this.#within(() => ProblemError.from(response));
      this.#response = response;
      this.#reader = response.body?.getReader();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  get status(): number {
    return this.#response?.status ?? 0;
  }

  header(name: string): string | null {
    return this.#response?.headers.get(name) ?? null;
  }

  /** Whether the answer is of this media type, whatever its parameters. */
  isOf(type: string): boolean {
    const [essence = ""] = (this.header("content-type") ?? "").split(";");
    return essence.trim().toLowerCase() === type;
  }

  /** From now on each piece may take so long, in milliseconds. */
  within(limit: number): this {
    this.#limit = limit;
    return this;
  }

  /** The next piece of the body, or null at its end. */
  async read(): Promise<Uint8Array | null> {
    const reader = this.#reader;
    const { done, value } = reader ? await this.#within(() => reader.read()) : { done: true };
    if (value) return value;
    this.#complete = done;
    return null;
  }

  /** All of the body. */
  async text(): Promise<string> {
    const decoder = new TextDecoder();
    let text = "";
    try {
      for (let bytes = await this.read(); bytes; bytes = await this.read()) {
        text += decoder.decode(bytes, { stream: true });
      }
    } finally {
      this.close();
    }
    return text + decoder.decode();
  }

  /** Leaves, wherever it is. A connection whose answer is complete stays open for the next request. */
  close(): void {
    this.#outer?.removeEventListener("abort", this.#leave);
    if (!this.#complete) this.#inner.abort(new ConnectionError("the connection was closed"));
  }

  /** Waits for it, but not for longer than the limit. */
  async #within<T>(io: () => Promise<T>): Promise<T> {
    const lost = (): void => this.#inner.abort(new ConnectionError(`nothing came for ${this.#limit} ms`));
    const timer = setTimeout(lost, this.#limit);
    try {
      return await io();
    } catch (error) {
      this.#outer?.throwIfAborted();
      throw error instanceof SegueError ? error : lostBy(error);
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Attempts in a row. */
export class Retry {
  readonly #backoff: Backoff;
  readonly #giveUp: number;
  #failingSince: number | null = null;

  constructor({ firstDelay, maxDelay, maxHint, jitter }: Timing, giveUp: number) {
    this.#backoff = new Backoff({ first: firstDelay, max: maxDelay, maxHint, jitter });
    this.#giveUp = giveUp;
  }

  /** Something came. */
  succeed(): void {
    this.#backoff.succeed();
    this.#failingSince = null;
  }

  /** The server's wish for the delay before a reconnect, in milliseconds. */
  hint(atLeast: number): void {
    this.#backoff.hint(atLeast);
  }

  /** What to wait before the next attempt. Throws the error if there is none. */
  fail(error: unknown): Reconnecting {
    if (!(error instanceof SegueError)) throw error;
    const now = performance.now();
    this.#failingSince ??= now;
    const delay = this.#backoff.fail(error instanceof ProblemError ? error.retryAfter : 0);
    const isPatient = now + delay - this.#failingSince <= this.#giveUp;
    if (!error.passing || !isPatient) throw error;
    return { attempt: this.#backoff.attempt, delay, error };
  }
}

/** Waits; throws the reason of an abort. */
export async function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted();
  let leave = (): void => {};
  try {
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(resolve, milliseconds);
      leave = (): void => {
        clearTimeout(timer);
        reject(signal?.reason as Error);
      };
      signal?.addEventListener("abort", leave, { once: true });
    });
  } finally {
    signal?.removeEventListener("abort", leave);
  }
}

/** A name that nobody else has. */
export function randomId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new ProtocolError("the answer is no JSON: is this a Segue server?", false);
  }
}

/** `fetch` tells that it failed, the cause tells why. */
function lostBy(error: unknown): ConnectionError {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const why = cause instanceof Error ? cause.message : String(cause);
  return new ConnectionError(`the connection to the server failed: ${why}`, { cause: error });
}
