// The shapes of plain calls: what is sent, what is answered. Their names are those of the wire.

/** What JSON can say. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
/** An object of JSON. */
export type JsonObject = { [key: string]: Json };

/** Where a run is; the last four are for ever. */
export type RunStatus = "queued" | "running" | "stopping" | TerminalStatus;
/** How a run ended. */
export type TerminalStatus = "finished" | "stopped" | "failed" | "interrupted";

/** Limits of a run; 0 means none. */
export interface Limits {
  wall_clock_s?: number;
  idle_s?: number;
  bytes?: number;
  events?: number;
  lease_s?: number;
}

/** What a run is started from. Absent fields take the server's defaults. */
export interface StartRun {
  /** A configured agent; `push` and `demo` are built in. */
  agent?: string;
  /** A source described here, such as `{ kind: "process", command: [...] }`; needs the admin scope. */
  source?: JsonObject;
  /** A text, a list of parts or a list of messages. */
  input?: string | Json[];
  /** For the source; of a model they are fields of its request. */
  params?: JsonObject;
  /** A name of your own, used once; the same start again is the same run. */
  run_id?: string;
  /** What happens when the session is busy; `reject` is the default. */
  policy?: "reject" | "queue" | "replace" | "parallel";
  limits?: Limits;
  /** Holds the answer until the run is not queued any more. */
  wait?: "started";
  /** What a restart of the server does: starts a queued run, or awaits the producer of a push run. */
  on_restart?: "start" | "await";
  /** A message of the session that gives way, with those after it, to the first that this start makes. */
  replaces?: string;
  /** A run of the session that has ended: what this one says is the end of its message. */
  continue?: string;
  metadata?: JsonObject;
}

/** A run, as the server shows it. */
export interface Run {
  id: string;
  session_id: string;
  agent: string;
  status: RunStatus;
  /** Why it was stopped. */
  reason?: string;
  /** What cut it off. */
  cause?: string;
  /** What went wrong. */
  error?: Json;
  message_id: string;
  /** The seq of its last event. */
  last_seq: number;
  created_at: string;
  started_at?: string;
  ended_at?: string;
  usage?: JsonObject;
  metadata: JsonObject;
}

/** Which runs, and which page of them. */
export interface RunFilter extends PageQuery {
  status?: RunStatus;
  agent?: string;
  session?: string;
  /** Only those created at this time (RFC 3339) or later. */
  since?: string;
}

/** Which page of a list. */
export interface PageQuery {
  /** Where {@link List.next} says. */
  after?: string;
  /** The most entries; 50 by default, at most 1000. */
  limit?: number;
}

/** One page of a list. */
export interface List<T> {
  data: T[];
  /** Where the next page begins; null after the last. */
  next: string | null;
}

/** A session, as the server shows it. */
export interface Session {
  id: string;
  title?: string | null;
  status: "idle" | "busy";
  /** The ids of its runs that have not ended. */
  active_runs: string[];
  /** How many clients are attached to them. */
  clients: number;
  metadata: JsonObject;
  created_at: string;
  updated_at: string;
}

/** A session to be. */
export interface CreateSession {
  id?: string;
  title?: string;
  metadata?: JsonObject;
}

/** What of a session changes; a `title` of null takes it away, `metadata` is replaced whole. */
export interface UpdateSession {
  title?: string | null;
  metadata?: JsonObject;
}

/** Who says a message. */
export type Role = "user" | "assistant" | "system" | "tool";

/** A message of a session: what its run has said up to now, or what somebody else said. */
export interface Message {
  id: string;
  session_id?: string;
  run_id?: string;
  role: Role;
  status: "streaming" | "complete" | "stopped" | "failed" | "interrupted";
  /** Rises with every change; in a snapshot the seq of the last event in it. */
  version: number;
  parts: ({ type: string } & JsonObject)[];
  data?: JsonObject;
  state?: JsonObject;
  approvals?: JsonObject;
  usage?: JsonObject;
  metadata: JsonObject;
  /** The message that took its place. */
  superseded_by?: string;
  /** It tells in short what stands before it. */
  is_summary?: boolean;
  created_at: string;
  updated_at: string;
}

/** A message to be, without a run. */
export interface CreateMessage {
  id?: string;
  /** `user` by default. */
  role?: Role;
  parts?: Json[];
  content?: Json;
  tool_call_id?: string;
  metadata?: JsonObject;
  is_summary?: boolean;
  /** A message of the session that gives way to this one, with those after it. */
  replaces?: string;
}

/** Which messages of a session, and which page of them. */
export interface MessageFilter extends PageQuery {
  role?: Role;
  /** Also those that others took the place of. */
  superseded?: boolean;
  /** The oldest first (`asc`, the default) or the newest. */
  order?: "asc" | "desc";
}

/** What is searched for. */
export interface Search extends PageQuery {
  /** Words that all have to be there; `"in quotation marks"` next to each other; `word*` begins so. */
  q: string;
  session?: string;
  role?: Role;
  superseded?: boolean;
}

/** A message that was found. */
export interface SearchHit {
  message_id: string;
  session_id: string | null;
  run_id?: string;
  role: Role;
  snippet: string;
  created_at: string;
}

/** An agent that runs can be started from. */
export interface Agent {
  name: string;
  kind: string;
  /** Whether a start that names none gets it. */
  default: boolean;
}

/** A stop of a run or of a session. */
export interface StopRun {
  /** Stops only this run; one that is not current stops nothing. */
  run_id?: string;
  /** Seconds, at most 30, to wait for the end. */
  wait?: number;
}

/** The answer to a stop. */
export interface Stopped {
  /** Whether this stop was the one that was accepted. */
  stopped: boolean;
  /** `pending` for a run that does not exist yet, null for a session without a run. */
  status: RunStatus | "pending" | null;
}

/** The answer to an append. */
export interface Appended {
  first_seq: number;
  last_seq: number;
  /** Whether an earlier request had appended it. */
  duplicate?: boolean;
  /** Whether somebody asked the run to stop. */
  stop_requested: boolean;
}

/** How a run ended, to one who followed it. */
export interface Ended {
  status: TerminalStatus;
  /** The stop's reason, the interruption's cause, the error's code or the finish reason. */
  reason: string | null;
  /** The seq of its terminal event. */
  last_seq: number;
}

/** What a producer is asked to do. */
export interface ControlItem {
  id: number;
  type: "stop";
  reason: string;
}
