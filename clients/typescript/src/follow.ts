// Following a run to its end.

import { ProtocolError } from "./errors.js";
import { isTerminal, type Followed, type Terminal } from "./events.js";
import type { Connection, Http } from "./http.js";
import { Place, type Begin } from "./place.js";
import type { Frame } from "./sse.js";
import { HealedStream, type Course, type StreamOptions } from "./stream.js";
import type { Ended, TerminalStatus } from "./types.js";

/** Where one begins to follow, and who goes along. */
export interface FollowOptions extends Begin, StreamOptions {}

/**
 * A run that is followed: each event once and in order, to the last one, over any number of cuts. Where
 * the server no longer has what comes next it gives a `control.gap` and a `control.snapshot`.
 */
export class Follow extends HealedStream<Followed> {
  readonly #course: RunCourse;

  constructor(http: Http, run: string, options: FollowOptions, connection?: Connection) {
    const course = new RunCourse(new Place(run, options));
    super(http, course, options, connection);
    this.#course = course;
  }

  /** The run's id. */
  get run(): string {
    return this.#course.place.run;
  }

  /** What to hand in as `after` to go on behind what was given so far; null before there is such a place. */
  get cursor(): string | null {
    return this.#course.place.cursor;
  }

  /** How the run ended; null as long as its end was not given. */
  get ended(): Ended | null {
    return this.#course.ended;
  }
}

class RunCourse implements Course<Followed> {
  readonly place: Place;
  ended: Ended | null = null;

  constructor(place: Place) {
    this.place = place;
  }

  connect(): ReturnType<Course<Followed>["connect"]> {
    return { path: ["v1", "runs", this.place.run, "events"], ...this.place.connect() };
  }

  take(frame: Frame): Followed | null {
    return this.place.take(frame);
  }

  isNews(item: Followed): boolean {
    return item.type !== "control.gap";
  }

  isLast(item: Followed): boolean {
    if (!isTerminal(item)) return false;
    this.ended = { status: item.status, reason: reasonOf(item), last_seq: item.seq };
    return true;
  }

  /** The run has ended, and the client has all of it. */
  over(connection: Connection): void {
    const status = connection.header("segue-run-status");
    if (!isTerminalStatus(status)) throw new ProtocolError("a 204 without the status of the run");
    const reason = connection.header("segue-run-reason") || null;
    const last_seq = Number(connection.header("segue-last-seq") ?? this.place.position);
    this.ended = { status, reason, last_seq };
  }
}

function isTerminalStatus(status: string | null): status is TerminalStatus {
  return isTerminal({ type: `run.${status}` });
}

function reasonOf(event: Terminal): string | null {
  switch (event.type) {
    case "run.finished":
      return event.finish_reason ?? null;
    case "run.stopped":
      return event.reason;
    case "run.failed":
      return event.error.code ?? null;
    case "run.interrupted":
      return event.cause;
  }
}
