// What the types say, for the strict compiler: each `@ts-expect-error` is a line that it has to refuse.

import {
  Client, isProblem, isTerminal, opaque, type Followed, type Producer, type ProducerEvent, type Run,
} from "segue-client";
import { resumable } from "segue-client/segue-resume.js";

const client = new Client("", { token: "t", fetch: resumable(), timing: { idle: 1000 } });

/** A `switch` over the type knows the fields of each event, and an unknown type is still an event. */
export function show(event: Followed): string {
  switch (event.type) {
    case "text.delta":
    case "reasoning.delta":
      return event.text;
    case "tool_call.started":
      return event.name;
    case "run.failed":
      return event.error.message ?? event.status;
    case "control.gap":
      return `${event.why} from ${event.from_seq}`;
    case "control.snapshot":
      return event.message.parts.map((part) => part.type).join();
    // @ts-expect-error there is no such type
    case "text.detla":
      return "";
    default:
      return event.type;
  }
}

/** Only what a producer may say is taken. */
export function produce(producer: Producer): Promise<unknown>[] {
  const event: ProducerEvent = { type: "data", name: "progress", value: { percent: 5 } };
  // @ts-expect-error the field of a delta is `text`
  const wrong: ProducerEvent = { type: "text.delta", part: "p", txt: "x" };
  // @ts-expect-error only the server says this
  const forged: ProducerEvent = { type: "run.stopped", reason: "user" };
  return [event, wrong, forged, opaque("my.type", { a: 1 })].map((event) => producer.send(event));
}

/** Calls know what they take and give. */
export async function calls(): Promise<Run | undefined> {
  // @ts-expect-error there is no such policy
  await client.start("s", { policy: "wait" });
  // @ts-expect-error a bound run is started by `startAndFollow`
  await client.start("s", { detached: false });
  const page = await client.runs({ status: "running", limit: 3 });
  const next: string | null = page.next;
  for await (const event of client.follow("r", { from: "last:3" })) {
    const seq: number = event.type === "control.gap" ? event.from_seq : event.seq;
    if (isTerminal(event)) return client.run(`${event.status}${seq}${next}`);
  }
  return undefined;
}

/** A refusal's code decides what else it says. */
export function refusal(error: unknown): number | undefined {
  if (isProblem(error, "cursor_ahead")) return error.members.last_seq;
  if (isProblem(error, "producer_gap")) return error.members.expected;
  // @ts-expect-error the document of this code has no such member
  if (isProblem(error, "cursor_trimmed")) return error.members.last_seq;
  if (isProblem(error, "session_busy", "run_ended")) return error.code.length;
  // @ts-expect-error there is no such code
  return isProblem(error, "not_fonud") ? 1 : undefined;
}
