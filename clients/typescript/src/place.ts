// The discipline of a cursor: each event once, in order, and no hole that was not told. Pure.

import { ProtocolError } from "./errors.js";
import type { Followed, RunEvent, Snapshot } from "./events.js";
import type { Frame } from "./sse.js";

/** Where one begins to follow a run; its first event by default. */
export interface Begin {
  /** After this cursor: "I have everything up to and including this". */
  after?: string | undefined;
  /** At a place of the server's choice instead: the tail, the last N events, or the message so far. */
  from?: "start" | "tail" | "snapshot" | `last:${number}` | undefined;
}

/** Whose word the position is: nobody's, the caller's, or the server's own. */
type Origin = "begin" | "caller" | "server";

/** Where a client stands in a run. Two numbers are all of its memory. */
export class Place {
  readonly run: string;
  readonly #from: string | undefined;
  /** The last position that the client has, by its own events or by what the caller said. */
  #position = 0;
  /**
   * The highest seq that was given. It may be below the position: a caller's cursor can be ahead of
   * what the server has, and then a gap leads back.
   */
  #given = 0;
  #origin: Origin = "begin";
  /** A gap was told: the next position may be any that was not given. */
  #gap = false;

  constructor(run: string, { after, from }: Begin = {}) {
    if (after !== undefined && from !== undefined) throw new TypeError("`after` and `from` exclude each other");
    this.run = run;
    this.#from = from === "start" ? undefined : from;
    if (after === undefined) return;
    const seq = seqOf(run, after);
    if (seq === null) throw new TypeError(`${JSON.stringify(after)} is no cursor of the run ${run}`);
    [this.#position, this.#origin] = [seq, "caller"];
  }

  get position(): number {
    return this.#position;
  }

  /** What to hand in as `after` to go on from here; null as long as there is no such place. */
  get cursor(): string | null {
    return this.#origin === "begin" ? null : `${this.run}:${this.#position}`;
  }

  /**
   * A new connection begins here. A cursor of the caller's that the run does not have is an error; one that
   * was the server's own and is no longer there is a gap.
   */
  connect(): { query: Record<string, string>; headers: Record<string, string> } {
    this.#gap = false;
    const cursor = `${this.run}:${this.#position}`;
    if (this.#origin === "server") return { query: {}, headers: { "last-event-id": cursor } };
    if (this.#origin === "caller") return { query: { after: cursor }, headers: {} };
    return { query: this.#from === undefined ? {} : { from: this.#from }, headers: {} };
  }

  /** Takes the next frame: something to give on, or null. Throws what cannot follow. */
  take(frame: Frame): Followed | null {
    const seq = frame.id === null ? null : this.#seqOf(frame.id);
    if (frame.data === null) {
      if (seq !== null) this.#confirm(seq);
      return null;
    }
    const said = objectOf(frame.data);
    const type = String(said["type"]);
    if (type.startsWith("control.")) return this.#control(type, seq, said);
    if (seq === null) throw new ProtocolError(`the event ${type} has no id`);
    if (seq <= this.#given || (seq <= this.#position && !this.#loose)) return null;
    if (seq !== this.#position + 1 && !this.#loose) throw hole(this.#position, seq);
    if (said["seq"] !== seq || said["run_id"] !== this.run) {
      throw new ProtocolError(`the envelope of event ${seq} names another position`);
    }
    this.#moveTo(seq);
    this.#given = seq;
    return said as unknown as RunEvent;
  }

  /** Whether the server may name any position. */
  get #loose(): boolean {
    return this.#gap || (this.#origin === "begin" && this.#from !== undefined);
  }

  #seqOf(id: string): number {
    const seq = seqOf(this.run, id);
    if (seq === null) throw new ProtocolError(`${JSON.stringify(id)} is no cursor of the run ${this.run}`);
    return seq;
  }

  /** A block that only says where the stream stands. */
  #confirm(seq: number): void {
    if (seq > this.#position && !this.#loose) throw hole(this.#position, seq);
    if (seq === this.#position || (this.#loose && seq >= this.#given)) this.#moveTo(seq);
  }

  #control(type: string, seq: number | null, said: Record<string, unknown>): Followed | null {
    if (type === "control.gap") {
      this.#gap = true;
      return said as unknown as Followed;
    }
    const isSnapshot = type === "control.snapshot";
    if (seq === null) {
      if (isSnapshot) throw new ProtocolError("a snapshot has no id");
      return null;
    }
    // After a gap a snapshot stands for the run as it is, also where that is behind what the client
    // had: what it had beyond is not the run's any more.
    if ((isSnapshot && this.#gap) || seq >= this.#given) {
      this.#moveTo(seq);
      this.#given = seq;
      return isSnapshot ? (said as unknown as Snapshot) : null;
    }
    return null;
  }

  #moveTo(seq: number): void {
    [this.#position, this.#origin, this.#gap] = [seq, "server", false];
  }
}

function seqOf(run: string, id: string): number | null {
  const digits = id.startsWith(`${run}:`) ? id.slice(run.length + 1) : "";
  const seq = Number(digits);
  return /^[0-9]+$/.test(digits) && Number.isSafeInteger(seq) ? seq : null;
}

function objectOf(data: string): Record<string, unknown> {
  let said: unknown;
  try {
    said = JSON.parse(data);
  } catch {
    throw new ProtocolError("the data of a frame is no JSON");
  }
  if (typeof said === "object" && said !== null && "type" in said) return said as Record<string, unknown>;
  throw new ProtocolError("the data of a frame is no event");
}

function hole(after: number, seq: number): ProtocolError {
  return new ProtocolError(`after event ${after} came ${seq}`);
}
