// An event stream that goes on over any number of connections.

import { ConnectionError, ProtocolError } from "./errors.js";
import { pause, type Connection, type Http, type Reconnecting, type Request, type Retry } from "./http.js";
import { SseDecoder, type Frame, type Signal } from "./sse.js";

/** Who goes along with a stream. */
export interface StreamOptions {
  /** Ends the stream with the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Told of each connection that is lost. */
  onReconnect?: ((reconnecting: Reconnecting) => void) | undefined;
}

/** What a stream is about. */
export interface Course<T> {
  /** Where the next connection begins. */
  connect(): Pick<Request, "path" | "query" | "headers">;
  /** Takes a frame: something to give, or null. Throws what cannot follow. */
  take(frame: Frame): T | null;
  /** Whether something is news: it ends a row of failures. */
  isNews(item: T): boolean;
  /** Whether something is the last. */
  isLast(item: T): boolean;
  /** There is nothing more: the answer 204. */
  over(connection: Connection): void;
}

/**
 * Gives what comes over one connection after the other, until the course is over. An end of a body is
 * none: it connects again, after a wait that grows. It throws the one error that makes it give up.
 */
export class HealedStream<T> implements AsyncIterableIterator<T> {
  readonly #http: Http;
  readonly #course: Course<T>;
  readonly #options: StreamOptions;
  readonly #retry: Retry;
  readonly #leave = new AbortController();
  readonly #abort = (): void => this.#leave.abort(this.#options.signal?.reason);
  #connection: Connection | null = null;
  #decoder = new SseDecoder();
  /** What was received and not taken, the next one last. */
  #signals: Signal[] = [];
  #over = false;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(http: Http, course: Course<T>, options: StreamOptions, connection?: Connection) {
    this.#http = http;
    this.#course = course;
    this.#options = options;
    this.#retry = http.retry();
    this.#connection = connection?.within(http.timing.idle) ?? null;
    if (options.signal?.aborted) this.#abort();
    options.signal?.addEventListener("abort", this.#abort, { once: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** The next item. Calls stand in line. */
  next(): Promise<IteratorResult<T, undefined>> {
    const next = this.#turn.then(() => this.#next());
    this.#turn = next.catch(() => {});
    return next;
  }

  /** Leaves. The run does not notice. */
  async return(): Promise<IteratorResult<T, undefined>> {
    this.#end();
    return { done: true, value: undefined };
  }

  async #next(): Promise<IteratorResult<T, undefined>> {
    try {
      while (!this.#over) {
        const item = await this.#step();
        if (item !== null) return { done: false, value: item };
      }
    } catch (error) {
      // Whoever left on purpose gets an end, and an abort its reason.
      if (!this.#over) {
        this.#end();
        throw error;
      }
    }
    return { done: true, value: undefined };
  }

  async #step(): Promise<T | null> {
    try {
      this.#leave.signal.throwIfAborted();
      const signal = this.#signals.pop();
      if (signal) return this.#take(signal);
      if (!this.#connection) return await this.#connect();
      const bytes = await this.#connection.read();
      if (!bytes) throw new ConnectionError("the stream ended before its last event");
      this.#signals = this.#decoder.push(bytes).reverse();
    } catch (error) {
      await this.#lost(error);
    }
    return null;
  }

  async #connect(): Promise<null> {
    const { headers, ...place } = this.#course.connect();
    const accept = { ...headers, accept: "text/event-stream" };
    const request = { method: "GET", ...place, headers: accept, limit: this.#http.timing.idle } as const;
    const connection = await this.#http.open(request, this.#leave.signal);
    this.#connection = connection;
    if (connection.status === 204) {
      this.#course.over(connection);
      this.#end();
    } else if (!connection.isOf("text/event-stream")) {
      throw new ProtocolError("the answer is no stream of events: is this a Segue server?", false);
    }
    return null;
  }

  #take(signal: Signal): T | null {
    if ("retry" in signal) {
      this.#retry.hint(signal.retry);
      return null;
    }
    const item = this.#course.take(signal.frame);
    if (item === null) return null;
    if (this.#course.isNews(item)) this.#retry.succeed();
    if (this.#course.isLast(item)) this.#end();
    return item;
  }

  /** Waits before the next connection. Throws what does not pass. */
  async #lost(error: unknown): Promise<void> {
    this.#leave.signal.throwIfAborted();
    this.#connection?.close();
    this.#connection = null;
    [this.#decoder, this.#signals] = [new SseDecoder(), []];
    const reconnecting = this.#retry.fail(error);
    this.#options.onReconnect?.(reconnecting);
    await pause(reconnecting.delay, this.#leave.signal);
  }

  #end(): void {
    this.#over = true;
    this.#options.signal?.removeEventListener("abort", this.#abort);
    this.#connection?.close();
    this.#connection = null;
    this.#leave.abort();
  }
}
