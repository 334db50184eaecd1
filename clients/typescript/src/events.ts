// What a run says, by `type`. A `switch` over it knows the fields of each.

import type { Json, JsonObject, Message } from "./types.js";

/** What each event of a run has. */
export interface Envelope {
  /** Its place in the run: 1, 2, 3 and so on. */
  seq: number;
  /** When it was journaled (RFC 3339, milliseconds). */
  at: string;
  run_id: string;
}

export interface RunQueued {
  type: "run.queued";
  session_id: string;
  message_id: string;
  agent: string;
  input: Json;
  turn: number;
}
export interface RunStarted {
  type: "run.started";
  session_id: string;
  message_id: string;
  agent: string;
  input: Json;
}
export interface RunResource {
  type: "run.resource";
  resource: Json;
}
export interface RunStopping {
  type: "run.stopping";
  reason: string;
  by?: Json;
}
export interface StepStarted {
  type: "step.started";
  step: string | number;
}
export interface StepFinished {
  type: "step.finished";
  step: string | number;
  finish_reason?: string;
}
export interface PartStart {
  type: "text.start" | "reasoning.start";
  part: string;
}
export interface PartDelta {
  type: "text.delta" | "reasoning.delta";
  part: string;
  text: string;
}
export interface PartEnd {
  type: "text.end" | "reasoning.end";
  part: string;
  signature?: string;
}
export interface ToolCallStarted {
  type: "tool_call.started";
  call_id: string;
  name: string;
  executor?: "provider" | "server" | "client";
}
export interface ToolCallInputDelta {
  type: "tool_call.input_delta";
  call_id: string;
  text: string;
}
export interface ToolCallInputEnd {
  type: "tool_call.input_end";
  call_id: string;
  input?: Json;
  raw?: string;
  error?: Json;
}
export interface ToolResult {
  type: "tool_result";
  call_id: string;
  output?: Json;
  error?: Json;
  /** The call may have had its effect: the run ended before its result came. */
  uncertain?: boolean;
  /** Another result of the call follows and takes its place. */
  preliminary?: boolean;
}
export interface ApprovalRequested {
  type: "approval.requested";
  approval_id: string;
  call_id?: string;
  prompt?: string;
  options?: Json[];
  schema?: Json;
  expires_at?: string;
}
export interface ApprovalResolved {
  type: "approval.resolved";
  approval_id: string;
  decision: Json;
  by?: Json;
}
export interface InputReceived {
  type: "input.received";
  parts?: Json[];
}
export interface FileEvent {
  type: "file";
  media_type: string;
  url?: string;
}
export interface SourceEvent {
  type: "source";
  url?: string;
  title?: string;
}
export interface Usage {
  type: "usage";
  input?: number;
  output?: number;
  reasoning?: number;
  cached?: number;
  cost?: Json;
  cumulative?: boolean;
}
export interface DataEvent {
  type: "data";
  name: string;
  value?: Json;
}
export interface StateEvent {
  type: "state";
  name?: string;
  snapshot?: Json;
  patch?: Json;
}
export interface MetadataEvent {
  type: "metadata";
  metadata: JsonObject;
}
export interface LogEvent {
  type: "log";
  text?: string;
}
export interface Discard {
  type: "discard";
  step: string | number;
}
export interface Warning {
  type: "warning";
  message?: string;
  code?: string;
}
export interface RunFinished {
  type: "run.finished";
  message_id: string;
  status: "finished";
  finish_reason?: string;
  usage?: JsonObject;
}
export interface RunStopped {
  type: "run.stopped";
  message_id: string;
  status: "stopped";
  reason: string;
  by?: Json;
  source_outcome?: Json;
}
export interface RunFailed {
  type: "run.failed";
  message_id: string;
  status: "failed";
  error: { code?: string; message?: string; [field: string]: Json | undefined };
}
export interface RunInterrupted {
  type: "run.interrupted";
  message_id: string;
  status: "interrupted";
  cause: string;
}
/** A stored record that the server cannot read. */
export interface Unreadable {
  type: "unreadable";
}

/** Stands for every type that this version does not know; a text like any other at run time. */
declare enum OpaqueType {
  any = "",
}
/** An event of a type that this version does not know. */
export interface OpaqueEvent {
  type: OpaqueType;
  [field: string]: unknown;
}

/** The last event of a run. */
export type Terminal = RunFinished | RunStopped | RunFailed | RunInterrupted;
/** What a producer may say. */
type Producible =
  | StepStarted | StepFinished | PartStart | PartDelta | PartEnd | ToolCallStarted | ToolCallInputDelta
  | ToolCallInputEnd | ToolResult | ApprovalRequested | FileEvent | SourceEvent | Usage | DataEvent
  | StateEvent | MetadataEvent | LogEvent | Discard | Warning | OpaqueEvent;
type Said =
  | RunQueued | RunStarted | RunResource | RunStopping | ApprovalResolved | InputReceived | Unreadable
  | Producible | Terminal;

/** An event of a run. */
export type RunEvent = Envelope & Said;
/** An event of a producer: without its envelope, which the server writes. */
export type ProducerEvent = Producible | ProducerTerminal;
/** How a producer ends its run. */
export type ProducerTerminal = Omit<RunFinished, "message_id" | "status"> | Omit<RunFailed, "message_id" | "status">;

/** An event of a type that is not in this file, for a producer. Such events are kept as they are. */
export function opaque(type: string, fields: JsonObject = {}): OpaqueEvent {
  return { ...fields, type: type as OpaqueType };
}

/** Whether an event is the last of its run. */
export function isTerminal(event: { type: string }): event is Envelope & Terminal {
  return /^run\.(finished|stopped|failed|interrupted)$/.test(event.type);
}

/** Events that cannot be given one by one; a snapshot of what there is comes next. */
export interface Gap {
  type: "control.gap";
  run_id: string;
  why: string;
  detail?: string;
  /** The first event that there is. */
  from_seq: number;
}

/** A run's message so far: it stands for all events up to `seq`. Forget what you had of the run. */
export interface Snapshot {
  type: "control.snapshot";
  run_id: string;
  seq: number;
  from_seq: number;
  format: number;
  steps: string[];
  message: Message;
  skipped?: number;
  work?: number;
  truncated?: number;
  omitted?: number;
  link?: string;
}

/** What one who follows a run gets. */
export type Followed = RunEvent | Gap | Snapshot;
