//! Which changes of a message may wait for a window.
//!
//! What grows may: texts, what is thought, the input of a call. What begins or ends may not, nor
//! what came whole: calls and their ends, the end of what is thought, results, files, decisions,
//! the end of the message and all that comes after it.

use segue_core::fold::{Json, Message, Part, ProseKind};
use serde::Deserialize;

/// Whether a message has changed in more than what grows.
pub(super) fn is_structural(before: &Message, after: &Message) -> bool {
    before.status.is_terminal()
        || before.status != after.status
        || before.approvals != after.approvals
        || !marks(before).eq(marks(after))
}

/// What is left of a part when what grows is taken away.
#[derive(Debug)]
enum Mark<'a> {
    /// Something was thought to its end.
    Thought,
    /// A call, and whether its input still grows.
    Call(&'a str, bool),
    /// A part that came whole.
    Whole(&'a Json),
}

impl PartialEq for Mark<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Thought, Self::Thought) => true,
            (Self::Call(id, open), Self::Call(other_id, other_open)) => {
                id == other_id && open == other_open
            }
            (Self::Whole(json), Self::Whole(other)) => json == other || is_later(json, other),
            (Self::Thought | Self::Call(..) | Self::Whole(_), _) => false,
        }
    }
}

fn marks(message: &Message) -> impl Iterator<Item = Mark<'_>> {
    message.parts.iter().filter_map(|part| match part {
        Part::Prose(prose) if prose.kind == ProseKind::Reasoning && !prose.open => {
            Some(Mark::Thought)
        }
        Part::Prose(_) => None,
        Part::Call(call) => Some(Mark::Call(&call.call_id, call.open)),
        Part::Whole(whole) => Some(Mark::Whole(whole.json())),
    })
}

#[derive(Deserialize, PartialEq)]
struct ResultSoFar {
    r#type: String,
    call_id: String,
    preliminary: bool,
}

/// Whether both are results of one call before its last one, of which the last one counts.
fn is_later(json: &Json, other: &Json) -> bool {
    let read = |json: &Json| serde_json::from_str::<ResultSoFar>(json.text()).ok();
    read(json).is_some_and(|first| first.preliminary && read(other).as_ref() == Some(&first))
}

#[cfg(test)]
mod tests {
    use segue_core::{
        MessageId, SessionId, Timestamp,
        fold::{MessageStatus, said},
    };
    use serde_json::{Value, json};

    use super::*;

    fn message(parts: &Value) -> Message {
        let said = json!({"role": "assistant", "parts": parts});
        let (id, session) = (MessageId::parse("m"), SessionId::parse("s"));
        let (id, session) = (id.expect("valid"), session.expect("valid"));
        let said = said::one(&said).expect("a message");
        let whole = Message::said(id, session, said, Timestamp::default());
        Message { status: MessageStatus::Streaming, ..whole }
    }

    #[track_caller]
    fn check(before: &Value, after: &Value, expected: bool) {
        assert_eq!(is_structural(&message(before), &message(after)), expected);
    }

    #[test]
    fn what_grows_may_wait() {
        let text = |text: &str| json!({"type": "text", "text": text, "open": true});
        let thought =
            |text: &str, open: bool| json!({"type": "reasoning", "text": text, "open": open});
        check(&json!([]), &json!([text("a")]), false);
        check(&json!([text("a")]), &json!([text("ab"), text("c")]), false);
        check(&json!([text("ab")]), &json!([text("a")]), false);
        check(&json!([]), &json!([thought("a", true)]), false);
        check(&json!([thought("a", true)]), &json!([thought("ab", false)]), true);
        check(&json!([thought("a", false)]), &json!([thought("ab", false)]), false);
    }

    #[test]
    fn calls_are_told_by_their_ids_and_ends() {
        let call = |id: &str, text: &str, open: bool| json!({"type": "tool_call", "call_id": id, "name": "n", "text": text, "open": open});
        let one = json!([call("a", "1", true)]);
        check(&one, &json!([call("a", "12", true)]), false);
        check(&one, &json!([call("a", "1", false)]), true);
        check(&one, &json!([call("a", "1", true), call("b", "", true)]), true);
        check(&one, &json!([]), true);
        check(&one, &json!([call("b", "1", true)]), true);
    }

    #[test]
    fn of_results_only_the_last_one_counts() {
        let result = |output: u64, preliminary: bool| {
            json!([{"type": "tool_result", "call_id": "c", "output": output,
                    "preliminary": preliminary}])
        };
        check(&json!([]), &result(1, true), true);
        check(&result(1, true), &result(2, true), false);
        check(&result(2, true), &result(2, false), true);
        check(&result(2, false), &result(3, false), true);
    }

    #[test]
    fn the_end_and_all_after_it_is_structural() {
        let before = message(&json!([]));
        let ended = Message { status: MessageStatus::Complete, ..before.clone() };
        assert!(is_structural(&before, &ended));
        assert!(is_structural(&ended, &ended));
        assert!(!is_structural(&before, &before));
    }
}
