// A producer's inbox: what it is asked to do.

import { ProtocolError } from "./errors.js";
import type { Http } from "./http.js";
import type { Frame } from "./sse.js";
import { HealedStream, type Course, type StreamOptions } from "./stream.js";
import type { ControlItem } from "./types.js";

/** Where one begins to read an inbox, and who goes along. */
export interface InboxOptions extends StreamOptions {
  /** After the item of this id. */
  after?: number | undefined;
}

/** The inbox of a push run: each item once, to the end of the run. Holding it open renews the lease. */
export class Inbox extends HealedStream<ControlItem> {
  constructor(http: Http, run: string, options: InboxOptions) {
    super(http, new InboxCourse(run, options.after ?? 0), options);
  }
}

class InboxCourse implements Course<ControlItem> {
  readonly #run: string;
  #last: number;

  constructor(run: string, after: number) {
    this.#run = run;
    this.#last = after;
  }

  connect(): ReturnType<Course<ControlItem>["connect"]> {
    const path = ["v1", "runs", this.#run, "control"];
    return { path, query: this.#last > 0 ? { after: this.#last } : {}, headers: {} };
  }

  take({ id, data }: Frame): ControlItem | null {
    if (id === null || data === null) return null;
    const seq = Number(id);
    if (!Number.isSafeInteger(seq)) throw new ProtocolError(`${JSON.stringify(id)} is no id of an inbox`);
    if (seq <= this.#last) return null;
    const item = parse(data);
    this.#last = seq;
    return item;
  }

  isNews(): boolean {
    return true;
  }

  isLast(): boolean {
    return false;
  }

  over(): void {}
}

function parse(data: string): ControlItem {
  try {
    return JSON.parse(data) as ControlItem;
  } catch {
    throw new ProtocolError("an item of an inbox is no JSON");
  }
}
