// The calls of a server.

import { Inbox, type InboxOptions } from "./control.js";
import { ProtocolError } from "./errors.js";
import type { Gap, ProducerEvent, RunEvent, Snapshot } from "./events.js";
import { Follow, type FollowOptions } from "./follow.js";
import { Http, randomId, type ClientOptions, type Connection, type Request } from "./http.js";
import type { Begin } from "./place.js";
import { Producer, type ProducerOptions } from "./produce.js";
import type {
  Agent, Appended, CreateMessage, CreateSession, List, Message, MessageFilter, PageQuery, Run, RunFilter, RunStatus,
  Search, SearchHit, Session, StartRun, StopRun, Stopped, UpdateSession,
} from "./types.js";

/** Who goes along with a call. */
export interface CallOptions {
  signal?: AbortSignal | undefined;
}

/** How a start is made safe to send again. */
export interface StartOptions extends CallOptions {
  /** The same key is the same run, within the session. One of its own by default. */
  idempotencyKey?: string | undefined;
}

/** A page of a run's events. */
export interface EventPage {
  gap?: Gap;
  snapshot?: Snapshot;
  data: RunEvent[];
  /** What to hand in as `after` for the next page; null once everything was given. */
  next: string | null;
  /** The run has ended, and this page reaches its end. */
  closed: boolean;
  status: RunStatus;
}

/** Which page of a run's events. */
export interface EventQuery extends Begin {
  /** The most events; 1000 by default and at most. */
  limit?: number;
  /** Seconds, at most 60, to wait for something where there is nothing yet. */
  wait?: number;
}

/**
 * A Segue server. Calls that may be sent twice (all but `create...`, `delete...` and `append` without numbers) are
 * tried again while the server is away.
 */
export class Client {
  readonly #http: Http;

  /** The server at `base`, such as `http://127.0.0.1:7878`; "" is the origin of the page. */
  constructor(base: string, options: ClientOptions = {}) {
    this.#http = new Http(base, options);
  }

  /** Starts a run in a session, which is made if it does not exist. The run is durable when this is done. */
  start(session: string, start: StartRun = {}, options: StartOptions = {}): Promise<Run> {
    const request = this.#starting(session, start, options);
    return this.#http.call(request, this.#triesOf(start), options.signal);
  }

  /**
   * Starts a run and follows it from its first event, in one request. With `detached: false` the run is bound
   * to this connection: when it is lost or left, the server stops the run.
   */
  async startAndFollow(
    session: string,
    start: StartRun & { detached?: boolean } = {},
    options: StartOptions & Omit<FollowOptions, keyof Begin> = {},
  ): Promise<Follow> {
    const request = this.#starting(session, start, options);
    const headers = { ...request.headers, accept: "text/event-stream" };
    return this.#http.again(this.#triesOf(start), options.signal, async () => {
      const connection = await this.#http.open({ ...request, headers }, options.signal);
      return new Follow(this.#http, runOf(connection, start), options, connection);
    });
  }

  /**
   * Follows a run to its end: each event once and in order, whatever happens to the connections and the server.
   */
  follow(run: string, options: FollowOptions = {}): Follow {
    return new Follow(this.#http, run, options);
  }

  /** Waits for the end of a run, and gives it. */
  async finished(run: string, options: CallOptions = {}): Promise<Run> {
    for await (const _ of this.follow(run, { ...options, from: "tail" }));
    return this.run(run, options);
  }

  /** One page of a run's events, without following it. */
  events(run: string, query: EventQuery = {}, options: CallOptions = {}): Promise<EventPage> {
    const request = this.#get(["v1", "runs", run, "events"], query);
    const limit = request.limit + 1000 * (query.wait ?? 0);
    return this.#call("again", { ...request, limit }, options);
  }

  /** A run. */
  run(run: string, options: CallOptions = {}): Promise<Run> {
    return this.#call("again", this.#get(["v1", "runs", run]), options);
  }

  /** A page of the runs, newest first. */
  runs(filter: RunFilter = {}, options: CallOptions = {}): Promise<List<Run>> {
    return this.#call("again", this.#get(["v1", "runs"], filter), options);
  }

  /** All runs that pass the filter, page by page. */
  allRuns(filter: RunFilter = {}, options: CallOptions = {}): AsyncGenerator<Run, void> {
    return all((page) => this.runs({ ...filter, ...page }, options));
  }

  /** Stops a run; idempotent. */
  stop(run: string, stop: StopRun = {}, options: CallOptions = {}): Promise<Stopped> {
    return this.#call("again", this.#stopping(["v1", "runs", run, "stop"], stop), options);
  }

  /** Stops all runs that a session has by now; idempotent. */
  stopSession(session: string, stop: StopRun = {}, options: CallOptions = {}): Promise<Stopped> {
    return this.#call("again", this.#stopping(["v1", "sessions", session, "stop"], stop), options);
  }

  /** Makes a session. A start makes its own, so this is for titles and metadata. */
  createSession(session: CreateSession = {}, options: CallOptions = {}): Promise<Session> {
    return this.#call("once", this.#send("POST", ["v1", "sessions"], session), options);
  }

  /** A session. */
  session(session: string, options: CallOptions = {}): Promise<Session> {
    return this.#call("again", this.#get(["v1", "sessions", session]), options);
  }

  /** A page of the sessions, newest first. */
  sessions(page: PageQuery = {}, options: CallOptions = {}): Promise<List<Session>> {
    return this.#call("again", this.#get(["v1", "sessions"], page), options);
  }

  /** All sessions, page by page. */
  allSessions(options: CallOptions = {}): AsyncGenerator<Session, void> {
    return all((page) => this.sessions(page, options));
  }

  /** Changes what a session is called. */
  updateSession(session: string, update: UpdateSession, options: CallOptions = {}): Promise<Session> {
    return this.#call("again", this.#send("PATCH", ["v1", "sessions", session], update), options);
  }

  /** Deletes a session with all of its runs; needs the admin token. */
  deleteSession(session: string, options: CallOptions = {}): Promise<void> {
    return this.#call("once", this.#deletion(["v1", "sessions", session]), options);
  }

  /** A message. */
  message(message: string, options: CallOptions = {}): Promise<Message> {
    return this.#call("again", this.#get(["v1", "messages", message]), options);
  }

  /** A page of a session's messages, in the order of the session. */
  messages(session: string, filter: MessageFilter = {}, options: CallOptions = {}): Promise<List<Message>> {
    return this.#call("again", this.#get(["v1", "sessions", session, "messages"], filter), options);
  }

  /** All messages of a session that pass the filter, page by page. */
  allMessages(session: string, filter: MessageFilter = {}, options: CallOptions = {}): AsyncGenerator<Message, void> {
    return all((page) => this.messages(session, { ...filter, ...page }, options));
  }

  /** Makes a message without a run, in a session that is made if it does not exist. */
  createMessage(session: string, message: CreateMessage, options: CallOptions = {}): Promise<Message> {
    return this.#call("once", this.#send("POST", ["v1", "sessions", session, "messages"], message), options);
  }

  /** Deletes a message; needs the admin token. */
  deleteMessage(message: string, options: CallOptions = {}): Promise<void> {
    return this.#call("once", this.#deletion(["v1", "messages", message]), options);
  }

  /** Messages that say this, a page of them, the newest first. */
  search(search: Search, options: CallOptions = {}): Promise<List<SearchHit>> {
    return this.#call("again", this.#get(["v1", "search"], search), options);
  }

  /** The agents that runs can be started from. */
  agents(options: CallOptions = {}): Promise<List<Agent>> {
    return this.#call("again", this.#get(["v1", "agents"]), options);
  }

  /**
   * Appends events to a push run as one atomic batch. With a producer's numbers a second request of the same
   * `seq` is answered as the first was, and appends nothing. A {@link Producer} numbers by itself.
   */
  append(
    run: string,
    events: ProducerEvent | ProducerEvent[],
    options: CallOptions & { producer?: { id: string; epoch: number; seq: number } } = {},
  ): Promise<Appended> {
    const request = this.#send("POST", ["v1", "runs", run, "events"], events);
    const { producer } = options;
    if (!producer) return this.#call("once", request, options);
    const headers = {
      "producer-id": producer.id,
      "producer-epoch": String(producer.epoch),
      "producer-seq": String(producer.seq),
    };
    return this.#call("again", { ...request, headers }, options);
  }

  /** Produces the events of a push run, each journaled once. */
  produce(run: string, options: ProducerOptions = {}): Producer {
    return new Producer(this.#http, run, options);
  }

  /** What the producer of a push run is asked to do, to the end of the run. */
  inbox(run: string, options: InboxOptions = {}): Inbox {
    return new Inbox(this.#http, run, options);
  }

  /** Whether the server says that it takes new work. One that is not reached does not. */
  async ready(options: CallOptions = {}): Promise<boolean> {
    try {
      const connection = await this.#http.open(this.#get(["readyz"]), options.signal);
      await connection.text();
      return true;
    } catch {
      options.signal?.throwIfAborted();
      return false;
    }
  }

  #call<T>(again: "again" | "once", request: Request, { signal }: CallOptions): Promise<T> {
    return this.#http.call<T>(request, again === "again" ? this.#http.timing.retry : 0, signal);
  }

  #get(path: string[], query: object = {}): Request {
    return { method: "GET", path, query, limit: this.#http.timing.call };
  }

  #send(method: "POST" | "PATCH", path: string[], json: object): Request {
    return { method, path, json, limit: this.#http.timing.call };
  }

  /** A start that waits for its turn is sent anew when that takes longer than a call may. */
  #triesOf({ wait }: StartRun): number {
    return wait === undefined ? this.#http.timing.retry : Number.POSITIVE_INFINITY;
  }

  #deletion(path: string[]): Request {
    return { method: "DELETE", path, limit: this.#http.timing.call };
  }

  #starting(session: string, start: object, { idempotencyKey }: StartOptions): Request {
    const headers = { "idempotency-key": idempotencyKey ?? randomId() };
    return { ...this.#send("POST", ["v1", "sessions", session, "runs"], start), headers };
  }

  #stopping(path: string[], stop: StopRun): Request {
    const request = this.#send("POST", path, stop);
    return { ...request, limit: request.limit + 1000 * (stop.wait ?? 0) };
  }
}

/** The run whose stream an answer is. */
function runOf(connection: Connection, { run_id }: StartRun): string {
  const [, named] = /\/v1\/runs\/([^/]+)\/events/.exec(connection.header("location") ?? "") ?? [];
  const run = run_id ?? named;
  if (run !== undefined && connection.isOf("text/event-stream")) return run;
  connection.close();
  throw new ProtocolError("the answer to the start is no stream of a run: is this a Segue server?", false);
}

async function* all<T>(page: (query: PageQuery) => Promise<List<T>>): AsyncGenerator<T, void> {
  for (let query: PageQuery | null = {}; query; ) {
    const { data, next }: List<T> = await page(query);
    yield* data;
    query = next === null ? null : { after: next };
  }
}
