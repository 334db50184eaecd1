// Producing the events of a push run, each journaled once.

import { Inbox } from "./control.js";
import { ClosedError, ConnectionError, ProblemError, RefusedEventError, SegueError } from "./errors.js";
import type { ProducerEvent, RunFailed, RunFinished } from "./events.js";
import { pause, randomId, type Http, type Reconnecting, type Retry } from "./http.js";
import { LineDecoder } from "./lines.js";
import { Outbox, type Batch } from "./outbox.js";

/** About the most characters of one request. */
const BATCH_SIZE = 1 << 20;
/** The codes of a line that is at fault itself. */
const EVENT_FAULTS = new Set<string>(["bad_event", "forged_event", "event_too_large", "malformed"]);

/** Who a producer is, and who goes along. */
export interface ProducerOptions {
  /** Its name: the scope of its numbers. A name of its own by default. */
  id?: string | undefined;
  /** Its life: a higher one restarts the numbers and shuts the lower ones out. 0 by default. */
  epoch?: number | undefined;
  /** Whether to hold the run's inbox open, which tells of a stop and renews the lease. True by default. */
  inbox?: boolean | undefined;
  /** Closes the producer. */
  signal?: AbortSignal | undefined;
  /** Told of each request that is lost and sent again. */
  onReconnect?: ((reconnecting: Reconnecting) => void) | undefined;
}

/** How far a producer is. */
export interface Journaled {
  /** How many of its events are journaled, in all. */
  events: number;
  /** The run's position that they have reached. */
  last_seq: number;
}

/** Somebody asked the run to stop: the producer should say its last words and end it. */
export class StopRequested extends SegueError {
  override readonly name = "StopRequested";
  readonly passing = false;
  readonly reason: string;

  constructor(reason: string) {
    super(`the run is to stop: ${reason}`);
    this.reason = reason;
  }
}

interface Waiter {
  /** The number of events that have to be journaled. */
  events: number;
  resolve: (journaled: Journaled) => void;
  reject: (error: unknown) => void;
}

/**
 * Sends the events of one run. Events that wait for the same request go out together; what was not
 * acknowledged goes out again with the same numbers, so that each event is journaled once.
 */
export class Producer {
  readonly run: string;
  readonly id: string;
  readonly epoch: number;
  readonly #http: Http;
  readonly #options: ProducerOptions;
  readonly #retry: Retry;
  readonly #outbox = new Outbox();
  readonly #leave = new AbortController();
  readonly #stop = new AbortController();
  readonly #abort = (): void => this.#end(this.#options.signal?.reason);
  #waiters: Waiter[] = [];
  #lastSeq = 0;
  #pumping = false;
  /** Why nothing is sent any more. */
  #ended: unknown = null;

  constructor(http: Http, run: string, options: ProducerOptions) {
    this.run = run;
    this.id = options.id ?? randomId();
    this.epoch = options.epoch ?? 0;
    this.#http = http;
    this.#options = options;
    this.#retry = http.retry();
    if (options.signal?.aborted) this.#abort();
    options.signal?.addEventListener("abort", this.#abort, { once: true });
    if (options.inbox ?? true) void this.#listen();
  }

  /** Aborted, with a {@link StopRequested}, once somebody asks the run to stop. Hand it to what you wait for. */
  get stopRequested(): AbortSignal {
    return this.#stop.signal;
  }

  /** How far it is. */
  get journaled(): Journaled {
    return { events: this.#outbox.first, last_seq: this.#lastSeq };
  }

  /**
   * Sends events; done when they are journaled. Awaiting it bounds what is kept in memory, but it need not
   * be awaited: an error comes with each later call as well.
   */
  send(...events: ProducerEvent[]): Promise<Journaled> {
    if (this.#ended !== null) return Promise.reject(this.#ended);
    for (const event of events) this.#outbox.push(JSON.stringify(event));
    const sent = new Promise<Journaled>((resolve, reject) => {
      this.#waiters.push({ events: this.#outbox.end, resolve, reject });
    });
    sent.catch(() => {});
    if (!this.#pumping) void this.#pump();
    return sent;
  }

  /** Ends the run as finished, and closes. */
  async finish(fields: Omit<RunFinished, "type" | "message_id" | "status"> = {}): Promise<Journaled> {
    return this.#last({ type: "run.finished", ...fields });
  }

  /** Ends the run as failed, and closes. */
  async fail(error: RunFailed["error"]): Promise<Journaled> {
    return this.#last({ type: "run.failed", error });
  }

  /** Leaves the run as it is: its lease runs out, or another producer goes on. Idempotent. */
  close(): void {
    this.#end(new ClosedError("the producer is closed"));
  }

  async #last(event: ProducerEvent): Promise<Journaled> {
    const journaled = await this.send(event);
    this.close();
    return journaled;
  }

  async #pump(): Promise<void> {
    this.#pumping = true;
    try {
      this.#settle();
      for (let batch = this.#outbox.batch(BATCH_SIZE); batch; batch = this.#outbox.batch(BATCH_SIZE)) {
        await this.#exchange(batch).catch((error: unknown) => this.#lost(error));
        this.#settle();
      }
    } catch (error) {
      this.#settle();
      this.#end(error);
    } finally {
      this.#pumping = false;
    }
  }

  async #exchange(batch: Batch): Promise<void> {
    const headers = {
      "content-type": "application/x-ndjson",
      prefer: "ack=final",
      "producer-id": this.id,
      "producer-epoch": String(this.epoch),
      "producer-seq": String(batch.first),
    };
    const path = ["v1", "runs", this.run, "events"];
    const { body } = batch;
    const request = { method: "POST", path, headers, body, limit: this.#http.timing.call } as const;
    const connection = await this.#http.open(request, this.#leave.signal);
    try {
      const lines = new LineDecoder();
      for (let bytes = await connection.read(); bytes; bytes = await connection.read()) {
        for (const line of lines.push(bytes)) this.#hear(line as Reply, batch);
      }
    } finally {
      connection.close();
    }
    if (this.#outbox.first < batch.end) throw new ConnectionError("the answer ended before it acknowledged all");
  }

  #hear(reply: Reply, batch: Batch): void {
    if (reply.error) {
      const problem = new ProblemError(Number(reply.error["status"] ?? 0), reply.error);
      const isOfEvent = EVENT_FAULTS.has(problem.code);
      throw isOfEvent ? new RefusedEventError(batch.first + (reply.line ?? 1) - 1, problem) : problem;
    }
    const before = this.#outbox.first;
    if (reply.acked_seq !== undefined) this.#outbox.acked(reply.acked_seq, batch);
    if (this.#outbox.first > before) this.#retry.succeed();
    this.#lastSeq = Math.max(this.#lastSeq, reply.last_seq ?? 0);
    if (reply.stop_requested) this.#tellStop("requested");
  }

  async #lost(error: unknown): Promise<void> {
    this.#leave.signal.throwIfAborted();
    const reconnecting = this.#retry.fail(error);
    this.#options.onReconnect?.(reconnecting);
    await pause(reconnecting.delay, this.#leave.signal);
  }

  /** Answers who waits for what is journaled by now. */
  #settle(): void {
    const journaled = this.journaled;
    while (this.#waiters[0] && this.#waiters[0].events <= journaled.events) {
      this.#waiters.shift()?.resolve(journaled);
    }
  }

  async #listen(): Promise<void> {
    try {
      for await (const item of new Inbox(this.#http, this.run, { signal: this.#leave.signal })) {
        if (item.type === "stop") this.#tellStop(item.reason);
      }
    } catch {
      // Without an inbox the acknowledgements still tell of a stop, and what is wrong with the run.
    }
  }

  #tellStop(reason: string): void {
    if (!this.#stop.signal.aborted) this.#stop.abort(new StopRequested(reason));
  }

  #end(why: unknown): void {
    this.#ended ??= why;
    this.#options.signal?.removeEventListener("abort", this.#abort);
    this.#leave.abort(this.#ended);
    for (const waiter of this.#waiters.splice(0)) waiter.reject(this.#ended);
  }
}

/** A line of the answer to an append. */
interface Reply {
  acked_seq?: number;
  last_seq?: number;
  stop_requested?: boolean;
  error?: Record<string, unknown>;
  line?: number;
}
