//! What a chat asks for: an answer to the user's message, that answer again, or that it goes on.

use std::collections::HashSet;

use segue_core::{
    MessageId, RunId, SessionId,
    fold::{Message, Role},
};
use segue_engine::{MessageQuery, RunQuery};
use serde_json::{Value, json};

use super::{ChatBody, malformed, newest};
use crate::{
    app::Call,
    digest::digest,
    error::{Code, Problem},
};

/// Where a message's metadata keeps the id that the client has for it.
const CLIENT_ID: &str = "ai_sdk_id";
/// How many messages of the chat's end are looked at.
const LOOKED_AT: usize = 200;

/// What a chat asks for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wish<'a> {
    /// An answer to this message of the user.
    Answer(&'a Value),
    /// That answer again.
    Again(&'a Value),
    /// That this answer goes on.
    GoOn(&'a Value),
}

/// What a start is made of.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) input: Value,
    pub(super) replaces: Option<MessageId>,
    pub(super) continues: Option<RunId>,
}

impl<'a> Wish<'a> {
    pub(super) fn of(body: &'a ChatBody) -> Result<Self, Problem> {
        let last = body.messages.as_ref().and_then(|messages| messages.last());
        let last = last.or(body.message.as_ref());
        let last = last.ok_or_else(|| malformed("`messages` has no message"))?;
        let is_again = body.trigger.as_deref() == Some("regenerate-message");
        match last["role"].as_str() {
            Some("user") if is_again => Ok(Self::Again(last)),
            Some("user") => Ok(Self::Answer(last)),
            Some("assistant") if !is_again => Ok(Self::GoOn(last)),
            _ => Err(malformed("the last message must be a user's")),
        }
    }

    /// By what the same request is known; none if it cannot be told from another.
    pub(super) fn mark(self, body: &ChatBody) -> Option<String> {
        let named = body.message_id.as_deref().unwrap_or_default();
        match self {
            Self::Answer(message) => mark_of(message, ""),
            Self::Again(message) => mark_of(message, &format!("again {named}")),
            Self::GoOn(message) => mark_of(message, "on"),
        }
    }

    /// Whether the same request that comes after its answer's end is the same again. A client that
    /// wants an answer again and does not name the old one may want that twice.
    pub(super) fn is_answered_once(self, body: &ChatBody) -> bool {
        !matches!(self, Self::Again(_)) || body.message_id.is_some()
    }

    /// What it takes, in a chat that is this session.
    pub(super) async fn asked(
        self,
        call: &Call,
        session: &SessionId,
        body: &ChatBody,
    ) -> Result<Asked, Problem> {
        match self {
            Self::Answer(message) => answer(call, session, body, message).await,
            Self::Again(message) => again(call, session, body, message).await,
            Self::GoOn(message) => go_on(call, session, message).await,
        }
    }
}

/// An answer to a message that is new, or that takes the place of an older one: a client that lets
/// its user edit a message names it in `messageId`.
async fn answer(
    call: &Call,
    session: &SessionId,
    body: &ChatBody,
    message: &Value,
) -> Result<Asked, Problem> {
    let edited = body.message_id.as_deref().filter(|id| message["id"] == *id);
    let replaces = match edited {
        Some(id) => {
            let told = conversation(call, session).await?;
            told.iter().find(|message| is_called(message, id)).map(|message| message.id.clone())
        }
        None => None,
    };
    Ok(Asked { input: input_of(message), replaces, continues: None })
}

/// The answer again: what came after the user's message is superseded.
async fn again(
    call: &Call,
    session: &SessionId,
    body: &ChatBody,
    message: &Value,
) -> Result<Asked, Problem> {
    let told = conversation(call, session).await?;
    let is_named = |told: &Message| body.message_id.as_deref() == Some(told.id.as_str());
    let of_message = |told: &Message| message["id"].as_str().is_some_and(|id| is_called(told, id));
    // The newest comes first, so what came after a message stands before it.
    let first = match told.iter().position(of_message) {
        Some(asked) => asked.checked_sub(1).map(|next| &told[next]),
        None => told
            .iter()
            .find(|told| is_named(told))
            .or_else(|| told.iter().find(|told| told.role == Role::Assistant)),
    };
    let replaces = first.map(|message| message.id.clone());
    Ok(Asked { input: Value::Null, replaces, continues: None })
}

/// The answer goes on with what the client's tools gave.
async fn go_on(call: &Call, session: &SessionId, message: &Value) -> Result<Asked, Problem> {
    let told = conversation(call, session).await?;
    let is_meant = |told: &&Message| message["id"] == told.id.as_str();
    let nothing = || Problem::new(Code::NotFound, "the chat has no such answer to go on with");
    let meant = told.iter().find(is_meant).ok_or_else(nothing)?;
    let continues = run_of(call, session, &meant.id).await?.ok_or_else(nothing)?;
    let known: HashSet<String> = told.iter().flat_map(results_of).collect();
    let parts = message["parts"].as_array().into_iter().flatten();
    let results = parts.filter_map(result_of);
    let results: Vec<Value> = results
        .filter(|result| result["call_id"].as_str().is_some_and(|id| !known.contains(id)))
        .collect();
    if results.is_empty() {
        let detail = "the last message is an answer, and has no result of a tool that is new";
        return Err(malformed(detail));
    }
    let input = json!([{"role": "tool", "parts": results}]);
    Ok(Asked { input, replaces: None, continues: Some(continues) })
}

/// The messages of the chat's end that are part of the conversation, the newest first.
async fn conversation(call: &Call, session: &SessionId) -> Result<Vec<Message>, Problem> {
    let session = Some(session.clone());
    let query =
        MessageQuery { session, newest_first: true, limit: LOOKED_AT, ..MessageQuery::default() };
    Ok(call.engine().messages(call.tenant(), query).await?.data)
}

/// The last run that made the message.
async fn run_of(
    call: &Call,
    session: &SessionId,
    message: &MessageId,
) -> Result<Option<RunId>, Problem> {
    if let Some(run) = newest(call, session).await?.filter(|run| run.message_id == *message) {
        return Ok(Some(run.id));
    }
    let session = Some(session.clone());
    let query = RunQuery { session, limit: LOOKED_AT, ..RunQuery::default() };
    let runs = call.engine().runs(call.tenant(), query).await?.data;
    Ok(runs.into_iter().find(|run| run.message_id == *message).map(|run| run.id))
}

fn is_called(message: &Message, id: &str) -> bool {
    message.id.as_str() == id || message.metadata[CLIENT_ID] == id
}

/// The calls that a message has results for.
fn results_of(message: &Message) -> Vec<String> {
    let parts = message.parts.iter().filter_map(|part| serde_json::to_value(part).ok());
    let results = parts.filter(|part| part["type"] == "tool_result");
    results.filter_map(|part| part["call_id"].as_str().map(str::to_owned)).collect()
}

/// What a tool of the client gave, in our words.
fn result_of(part: &Value) -> Option<Value> {
    let kind = part["type"].as_str()?;
    if !(kind.starts_with("tool-") || kind == "dynamic-tool") {
        return None;
    }
    let call = part["toolCallId"].as_str()?;
    match part["state"].as_str()? {
        "output-available" => {
            Some(json!({"type": "tool_result", "call_id": call, "output": part["output"]}))
        }
        "output-error" => {
            Some(json!({"type": "tool_result", "call_id": call, "error": part["errorText"]}))
        }
        _ => None,
    }
}

/// A user's message in our words; what has no word of ours is kept.
fn input_of(message: &Value) -> Value {
    let part = |part: &Value| match part["type"].as_str() {
        Some("text") => json!({"type": "text", "text": part["text"]}),
        Some("file") => {
            let (media, url, name) = (&part["mediaType"], &part["url"], &part["filename"]);
            json!({"type": "file", "media_type": media, "url": url, "name": name})
        }
        _ => part.clone(),
    };
    let parts: Vec<Value> = match message["parts"].as_array() {
        Some(parts) => parts.iter().map(part).collect(),
        None => {
            vec![json!({"type": "text", "text": message["content"].as_str().unwrap_or_default()})]
        }
    };
    match message["id"].as_str() {
        Some(id) => json!([{"role": "user", "parts": parts, "metadata": {CLIENT_ID: id}}]),
        None => json!(parts),
    }
}

/// What is known of a message, so that the same one is not answered twice: a message without an
/// id is never the same as another.
fn mark_of(message: &Value, how: &str) -> Option<String> {
    let mut message = message.clone();
    message["id"].as_str()?;
    message.sort_all_objects();
    Some(digest(&format!("{how}{message}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_the_same_only_with_an_id_and_all_of_its_content() {
        let message = |id: Value, text: &str| json!({"id": id, "parts": [{"text": text}]});
        let mark = |id: Value, text: &str| mark_of(&message(id, text), "");
        assert_eq!(mark(json!("m"), "a"), mark(json!("m"), "a"));
        assert_ne!(mark(json!("m"), "a"), mark(json!("m"), "b"));
        assert_ne!(mark(json!("m"), "a"), mark(json!("n"), "a"));
        assert_ne!(mark(json!("m"), "a"), mark_of(&message(json!("m"), "a"), "again x"));
        assert_eq!(mark(Value::Null, "a"), None);
    }

    #[test]
    fn parts_become_ours() {
        let parts = json!([
            {"type": "text", "text": "hi", "state": "done"},
            {"type": "file", "mediaType": "image/png", "url": "data:,x", "filename": "x.png"},
        ]);
        let ours = json!([
            {"type": "text", "text": "hi"},
            {"type": "file", "media_type": "image/png", "url": "data:,x", "name": "x.png"},
        ]);
        assert_eq!(input_of(&json!({"parts": parts})), ours);
        let named = json!([{"role": "user", "parts": ours, "metadata": {"ai_sdk_id": "m"}}]);
        assert_eq!(input_of(&json!({"id": "m", "parts": parts})), named);
        let old = json!({"content": "hi"});
        assert_eq!(input_of(&old), json!([{"type": "text", "text": "hi"}]));
    }

    #[test]
    fn what_a_clients_tool_gave_is_a_result() {
        let part = |kind: &str, state: &str| json!({"type": kind, "toolCallId": "c", "state": state, "output": 4, "errorText": "no"});
        let gave = json!({"type": "tool_result", "call_id": "c", "output": 4});
        let failed = json!({"type": "tool_result", "call_id": "c", "error": "no"});
        assert_eq!(result_of(&part("tool-f", "output-available")), Some(gave));
        assert_eq!(result_of(&part("dynamic-tool", "output-error")), Some(failed));
        assert_eq!(result_of(&part("tool-f", "input-available")), None);
        assert_eq!(result_of(&part("text", "output-available")), None);
    }
}
