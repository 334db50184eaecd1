//! What a model is told of a conversation before it speaks: valid and bounded.
//!
//! The system's messages come first, then the newest summary, then the newest messages that fit;
//! what a summary tells in short and what does not fit are left out. It begins with who asks, and
//! every tool call has exactly one result that follows it, so that any API takes it.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use crate::fold::{Message, Role};

/// A tool's result that is larger than this is left out before its message is, in bytes.
const SMALL_RESULT: usize = 2 << 10;

/// A conversation in the making, from its newest message to older ones.
#[derive(Debug)]
pub struct Conversation {
    /// The newest first.
    turns: Vec<Turn>,
    /// Bytes that are left.
    room: usize,
    /// Older messages than those that were added are missing.
    is_cut: bool,
    is_whole: bool,
    /// Calls that the run's own input answers.
    answered: HashSet<String>,
}

#[derive(Debug)]
struct Turn {
    role: Role,
    parts: Vec<Value>,
}

impl Conversation {
    /// Nothing yet, of at most so many bytes as JSON, before a run with this input.
    pub fn new(budget: usize, input: &Value) -> Self {
        let answered = results_in(input).into_iter().collect();
        Self { turns: Vec::new(), room: budget, is_cut: false, is_whole: false, answered }
    }

    /// Whether older messages are wanted.
    pub fn wants_more(&self) -> bool {
        !self.is_whole
    }

    /// Adds the message before those that are there. One that still grows, that another took the
    /// place of, or of the system is passed over.
    pub fn add_older(&mut self, message: &Message) {
        let is_told = message.status.is_terminal() && message.superseded_by.is_none();
        let is_apart = message.role == Role::System && !message.is_summary;
        if self.is_whole || !is_told || is_apart {
            return;
        }
        let mut turns = turns_of(message);
        if !self.fits(&turns) {
            turns.iter_mut().for_each(Turn::leave_out_results);
        }
        if !self.fits(&turns) {
            (self.is_cut, self.is_whole) = (true, true);
            return;
        }
        self.room -= bytes_of(&turns);
        self.turns.extend(turns.into_iter().rev());
        self.is_whole = message.is_summary;
    }

    fn fits(&self, turns: &[Turn]) -> bool {
        bytes_of(turns) <= self.room
    }

    /// The conversation, the oldest first, each turn `{"role", "parts"}`; what the system says, the
    /// oldest first, comes before it.
    pub fn finish<'a>(self, system: impl IntoIterator<Item = &'a Message>) -> Vec<Value> {
        let system = system.into_iter().filter(|message| !message.is_summary);
        let mut told: Vec<Turn> = system.flat_map(turns_of).collect();
        for turn in &mut told {
            turn.parts.retain(|part| kind(part) == "text");
        }
        let mut turns: Vec<Turn> = self.turns.into_iter().rev().collect();
        if self.is_cut {
            let first = turns.iter().position(|turn| turn.role == Role::User);
            turns.drain(..first.unwrap_or(turns.len()));
        }
        pair(&mut turns, &self.answered);
        told.extend(turns);
        told.retain(|turn| !turn.parts.is_empty());
        told.iter().map(|turn| json!({"role": turn.role, "parts": turn.parts})).collect()
    }
}

impl Turn {
    fn leave_out_results(&mut self) {
        for part in &mut self.parts {
            let is_large = kind(part) == "tool_result" && part.to_string().len() > SMALL_RESULT;
            if is_large {
                *part = json!({
                    "type": "tool_result",
                    "call_id": part["call_id"],
                    "output": "[the result is left out, it is too long]",
                });
            }
        }
    }
}

fn bytes_of(turns: &[Turn]) -> usize {
    let bytes = |part: &Value| part.to_string().len();
    turns.iter().flat_map(|turn| &turn.parts).map(bytes).sum()
}

fn kind(part: &Value) -> &str {
    part["type"].as_str().unwrap_or_default()
}

fn call_of(part: &Value) -> Option<&str> {
    part["call_id"].as_str()
}

/// What a message says to a model, split where something was said into its run. A summary is told
/// by who asks.
fn turns_of(message: &Message) -> Vec<Turn> {
    let role = if message.is_summary { Role::User } else { message.role };
    let mut turns = vec![Turn { role, parts: Vec::new() }];
    for part in &message.parts {
        // Of a number that ours cannot hold nothing is told.
        let Ok(part) = serde_json::to_value(part) else { continue };
        if kind(&part) == "input" {
            let said = part["parts"].as_array().into_iter().flatten();
            let parts = said.filter(|part| is_sayable(part)).cloned().collect();
            turns.push(Turn { role: Role::User, parts });
            turns.push(Turn { role, parts: Vec::new() });
        } else if is_sayable(&part)
            && let Some(turn) = turns.last_mut()
        {
            turn.parts.push(part);
        }
    }
    turns.retain(|turn| !turn.parts.is_empty());
    turns
}

/// Whether a part is of those that every model's API knows. What is shown to people is not.
fn is_sayable(part: &Value) -> bool {
    let has = |name: &str| part[name].as_str().is_some_and(|text| !text.is_empty());
    match kind(part) {
        "text" => has("text"),
        "reasoning" => has("text") || !part["signature"].is_null(),
        "tool_call" => has("call_id") && has("name"),
        "tool_result" => has("call_id"),
        "file" => has("url"),
        _ => false,
    }
}

/// The calls that an input has results for.
fn results_in(input: &Value) -> Vec<String> {
    let items = input.as_array().into_iter().flatten();
    let of_item = |item: &Value| {
        let own = item["tool_call_id"].as_str().map(str::to_owned);
        let parts = item["parts"].as_array().or_else(|| item["content"].as_array());
        let parts = parts.into_iter().flatten().chain([item]);
        let results = parts.filter(|part| kind(part) == "tool_result").filter_map(call_of);
        own.into_iter().chain(results.map(str::to_owned)).collect::<Vec<_>>()
    };
    items.flat_map(of_item).collect()
}

/// Each call gets its result, the last one there is, in the turn that made it or at its end; one
/// that nobody answered gets an error. Other results go.
fn pair(turns: &mut [Turn], answered: &HashSet<String>) {
    let mut results = HashMap::new();
    for part in turns.iter().flat_map(|turn| &turn.parts) {
        if let Some(call) = call_of(part).filter(|_| kind(part) == "tool_result") {
            results.insert(call.to_owned(), part.clone());
        }
    }
    let last_answer = turns.iter().rposition(|turn| turn.role == Role::Assistant);
    let mut seen = HashSet::new();
    for (index, turn) in turns.iter_mut().enumerate() {
        let mut open: Vec<String> = Vec::new();
        turn.parts.retain_mut(|part| match (kind(part), call_of(part).map(str::to_owned)) {
            ("tool_call", Some(call)) if turn.role == Role::Assistant => {
                let is_new = seen.insert(call.clone());
                open.extend(is_new.then_some(call));
                is_new
            }
            ("tool_result", Some(call)) => match open.iter().position(|id| *id == call) {
                Some(at) => {
                    open.remove(at);
                    *part = results[&call].clone();
                    true
                }
                None => false,
            },
            ("tool_call" | "tool_result", _) => false,
            _ => true,
        });
        let comes = |call: &String| Some(index) == last_answer && answered.contains(call);
        for call in open.into_iter().filter(|call| !comes(call)) {
            let nobody =
                || json!({"type": "tool_result", "call_id": call, "error": "not answered"});
            turn.parts.push(results.get(&call).cloned().unwrap_or_else(nobody));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        MessageId, SessionId, Timestamp,
        fold::{MessageStatus, said},
    };

    fn message(role: &str, parts: &Value) -> Message {
        let said = said::one(&json!({"role": role, "parts": parts})).expect("a message");
        let (id, session) = (MessageId::parse("m"), SessionId::parse("s"));
        let (id, session) = (id.expect("valid"), session.expect("valid"));
        Message::said(id, session, said, Timestamp::default())
    }

    fn text(role: &str, text: &str) -> Message {
        message(role, &json!([{"type": "text", "text": text}]))
    }

    fn call(id: &str) -> Value {
        json!({"type": "tool_call", "call_id": id, "name": "f", "input": {}})
    }

    fn result(id: &str, output: &str) -> Value {
        json!({"type": "tool_result", "call_id": id, "output": output})
    }

    fn told(budget: usize, input: &Value, messages: &[Message]) -> Vec<Value> {
        let mut conversation = Conversation::new(budget, input);
        for message in messages.iter().rev() {
            conversation.add_older(message);
        }
        let system: Vec<_> = messages.iter().filter(|m| m.role == Role::System).collect();
        conversation.finish(system)
    }

    /// `role: text` of each part, other parts as `type call_id`.
    fn lines(told: &[Value]) -> Vec<String> {
        let line = |role: &Value, part: &Value| match part["text"].as_str() {
            Some(text) => format!("{}: {text}", role.as_str().unwrap_or_default()),
            None => {
                let what = part["output"].as_str().or(part["error"].as_str()).unwrap_or_default();
                format!("{} {} {what}", kind(part), call_of(part).unwrap_or_default())
                    .trim_end()
                    .to_owned()
            }
        };
        let of_turn = |turn: &Value| {
            let parts = turn["parts"].as_array().expect("parts");
            parts.iter().map(|part| line(&turn["role"], part)).collect::<Vec<_>>()
        };
        told.iter().flat_map(of_turn).collect()
    }

    #[test]
    fn the_system_and_the_summary_come_first() {
        let summary = Message { is_summary: true, ..text("assistant", "in short") };
        let messages = [
            text("user", "old"),
            text("system", "be brief"),
            text("assistant", "older"),
            summary,
            text("user", "new"),
            text("system", "be kind"),
            text("assistant", "newest"),
        ];
        let expected = [
            "system: be brief",
            "system: be kind",
            "user: in short",
            "user: new",
            "assistant: newest",
        ];
        assert_eq!(lines(&told(1 << 20, &Value::Null, &messages)), expected);
    }

    #[test]
    fn what_grows_or_was_replaced_is_not_told() {
        let mut growing = text("assistant", "growing");
        growing.status = MessageStatus::Streaming;
        let mut replaced = text("user", "replaced");
        replaced.superseded_by = MessageId::parse("x").ok();
        let mut stopped = text("assistant", "stopped");
        stopped.status = MessageStatus::Stopped;
        let messages = [text("user", "a"), growing, replaced, stopped, text("assistant", "")];
        assert_eq!(
            lines(&told(1 << 20, &Value::Null, &messages)),
            ["user: a", "assistant: stopped"]
        );
    }

    #[test]
    fn what_does_not_fit_is_left_out_from_the_oldest_and_it_begins_with_who_asks() {
        let long = "x".repeat(100);
        let messages = [
            text("user", &long),
            text("assistant", "answer"),
            text("user", "b"),
            text("assistant", "c"),
        ];
        let all = bytes_of(&messages.iter().flat_map(turns_of).collect::<Vec<_>>());
        assert_eq!(told(all, &Value::Null, &messages).len(), 4);
        assert_eq!(lines(&told(all - 1, &Value::Null, &messages)), ["user: b", "assistant: c"]);
        assert_eq!(told(1, &Value::Null, &messages), Vec::<Value>::new());
    }

    #[test]
    fn a_long_result_is_left_out_before_its_message() {
        let parts = json!([call("c"), result("c", &"x".repeat(10_000))]);
        let messages = [text("user", "a"), message("assistant", &parts)];
        let shown = lines(&told(1_000, &Value::Null, &messages));
        let left = "tool_result c [the result is left out, it is too long]";
        assert_eq!(shown, ["user: a", "tool_call c", left]);
    }

    #[test]
    fn every_call_has_one_result_after_it() {
        let messages = [
            text("user", "a"),
            message("assistant", &json!([call("c"), result("c", "1"), call("d"), call("e")])),
            message("tool", &json!([result("d", "2"), result("nobody", "3"), result("d", "4")])),
            message("assistant", &json!([{"type": "text", "text": "b"}, call("c"), call("f")])),
        ];
        let before = ["user: a", "tool_call c", "tool_result c 1", "tool_call d", "tool_call e"];
        let middle =
            ["tool_result d 4", "tool_result e not answered", "assistant: b", "tool_call f"];
        let expected = || before.into_iter().chain(middle);
        let answer = json!([{"role": "tool", "tool_call_id": "f", "content": "5"}]);
        let shown = lines(&told(1 << 20, &answer, &messages));
        assert_eq!(shown, expected().collect::<Vec<_>>());
        let parts = json!([result("f", "5")]);
        assert_eq!(lines(&told(1 << 20, &parts, &messages)), shown);
        let unanswered = expected().chain(["tool_result f not answered"]);
        let shown = lines(&told(1 << 20, &json!("next"), &messages));
        assert_eq!(shown, unanswered.collect::<Vec<_>>());
    }

    #[test]
    fn what_was_said_into_a_run_is_told_in_its_place_and_what_is_shown_is_not_told() {
        let parts = json!([
            {"type": "text", "text": "one"},
            {"type": "data", "name": "n"},
            {"type": "input", "parts": [{"type": "text", "text": "wait"}, {"type": "odd"}]},
            {"type": "text", "text": "two"},
            {"type": "finish"},
        ]);
        let shown = lines(&told(1 << 20, &Value::Null, &[message("assistant", &parts)]));
        assert_eq!(shown, ["assistant: one", "user: wait", "assistant: two"]);
    }

    fn a_part() -> impl Strategy<Value = Value> {
        let id = prop::sample::select(vec!["a", "b", "c"]);
        prop_oneof![
            id.clone().prop_map(call),
            id.prop_map(|id| result(id, "x")),
            "[a-z]{0,40}".prop_map(|text| json!({"type": "text", "text": text})),
        ]
    }

    fn a_message() -> impl Strategy<Value = Message> {
        let role = prop::sample::select(vec!["user", "assistant", "tool", "system"]);
        (role, prop::collection::vec(a_part(), 0..5), prop::bool::weighted(0.1)).prop_map(
            |(role, parts, is_summary)| Message { is_summary, ..message(role, &json!(parts)) },
        )
    }

    proptest! {
        #[test]
        fn it_is_always_valid_and_bounded(
            messages in prop::collection::vec(a_message(), 0..12),
            budget in 0..600usize,
        ) {
            let told = told(budget, &Value::Null, &messages);
            let mut open: Vec<String> = Vec::new();
            let mut bytes = 0;
            for turn in &told {
                let parts = turn["parts"].as_array().expect("parts");
                prop_assert!(!parts.is_empty());
                for part in parts {
                    let call = call_of(part).map(str::to_owned);
                    match kind(part) {
                        "tool_call" => open.extend(call),
                        "tool_result" => {
                            let at = open.iter().position(|id| Some(id) == call.as_ref());
                            prop_assert!(at.is_some(), "{told:?}");
                            open.remove(at.unwrap_or_default());
                        }
                        _ if turn["role"] != "system" => bytes += part.to_string().len(),
                        _ => {}
                    }
                }
                prop_assert!(turn["role"] == "system" || open.is_empty(), "{told:?}");
            }
            prop_assert!(bytes <= budget);
        }
    }
}
