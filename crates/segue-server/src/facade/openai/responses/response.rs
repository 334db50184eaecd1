//! The response object.

use segue_core::{Outcome, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    super::{Asked, seconds, usage::Usage},
    state::State,
};

/// Where a response is, and how it ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Life {
    pub(super) status: String,
    pub(super) created_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    error: Value,
    incomplete: Value,
    pub(super) usage: Usage,
}

impl Default for Life {
    fn default() -> Self {
        Self {
            status: "in_progress".to_owned(),
            created_at: None,
            ended_at: None,
            error: Value::Null,
            incomplete: Value::Null,
            usage: Usage::default(),
        }
    }
}

impl Life {
    /// Takes the terminal in. Gives the type of the last event.
    pub(super) fn end(&mut self, at: Timestamp, fields: &Value) -> &'static str {
        self.usage.take_in(&fields["usage"]);
        self.ended_at = Some(at);
        let (status, event) = match Outcome::from_json(fields) {
            Some(Outcome::Finished { finish_reason, .. }) => {
                match finish_reason.as_deref().and_then(incomplete_reason) {
                    None => ("completed", "response.completed"),
                    Some(reason) => self.cut(reason),
                }
            }
            Some(Outcome::Interrupted { cause }) => {
                self.cut(&format!("interrupted: {}", cause.as_str()))
            }
            // The API has no event of this name: its clients know it by the response's status.
            Some(Outcome::Stopped { .. }) => ("cancelled", "response.incomplete"),
            Some(Outcome::Failed { error }) => self.fail(&error.code, &error.message),
            None => self.fail("unreadable", "the end of the answer cannot be read"),
        };
        status.clone_into(&mut self.status);
        event
    }

    fn cut(&mut self, reason: &str) -> (&'static str, &'static str) {
        self.incomplete = json!({"reason": reason});
        ("incomplete", "response.incomplete")
    }

    /// The code is one of a closed list.
    fn fail(&mut self, code: &str, message: &str) -> (&'static str, &'static str) {
        let code = match code {
            "upstream_rate_limited" => "rate_limit_exceeded",
            _ => "server_error",
        };
        self.error = json!({"code": code, "message": message});
        ("failed", "response.failed")
    }
}

/// Why an answer that came to its end is not whole.
fn incomplete_reason(reason: &str) -> Option<&'static str> {
    match reason {
        "length" | "max_tokens" => Some("max_output_tokens"),
        "content_filter" | "content-filter" => Some("content_filter"),
        _ => None,
    }
}

/// The response as it is now.
pub(super) fn object(asked: &Asked, state: &State) -> Value {
    let life = &state.life;
    let completed_at = life.ended_at.filter(|_| life.status == "completed");
    let mut object = json!({
        "id": Asked::response_id(&asked.run),
        "object": "response",
        "created_at": life.created_at.map_or(0, seconds),
        "status": life.status,
        "completed_at": completed_at.map(seconds),
        "background": false,
        "error": life.error,
        "incomplete_details": life.incomplete,
        "instructions": null,
        "max_output_tokens": null,
        "metadata": {},
        "model": asked.agent,
        "output": state.output,
        "parallel_tool_calls": true,
        "previous_response_id": null,
        "reasoning": {"effort": null, "summary": null},
        "store": true,
        "temperature": null,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": null,
        "truncation": "disabled",
        "usage": life.usage.of_response(),
    });
    let echoed = asked.echoed();
    if let Some(fields) = object.as_object_mut() {
        fields.extend(echoed);
    }
    object
}
