// A typed client of Segue that needs nothing but `fetch`.

export { Client, type CallOptions, type EventPage, type EventQuery, type StartOptions } from "./client.js";
export { Inbox, type InboxOptions } from "./control.js";
export {
  ClosedError, ConnectionError, ProblemError, ProtocolError, RefusedEventError, SegueError, isProblem,
  type MembersOf, type ProblemCode,
} from "./errors.js";
export * from "./events.js";
export { Follow, type FollowOptions } from "./follow.js";
export type { ClientOptions, Reconnecting, Timing } from "./http.js";
export type { Begin } from "./place.js";
export { Producer, StopRequested, type Journaled, type ProducerOptions } from "./produce.js";
export type { StreamOptions } from "./stream.js";
export * from "./types.js";
