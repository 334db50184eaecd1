//! What a run costs, in `OpenAI`'s words.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What was said of it so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Usage(Option<Map<String, Value>>);

impl Usage {
    /// Takes a usage in: the newest counts, and one that is not cumulative is added.
    pub(super) fn take_in(&mut self, said: &Value) {
        let Some(said) = said.as_object() else { return };
        let is_more = said.get("cumulative") == Some(&Value::Bool(false));
        let mut usage = said.clone();
        if let Some(before) = self.0.as_ref().filter(|_| is_more) {
            for (name, value) in before {
                let sum = usage.get(name).and_then(Value::as_u64).unwrap_or(0);
                let number = value.as_u64().map(|value| json!(value.saturating_add(sum)));
                usage.insert(name.clone(), number.unwrap_or_else(|| value.clone()));
            }
        }
        self.0 = Some(usage);
    }

    fn number(&self, name: &str) -> u64 {
        let number = self.0.as_ref().and_then(|usage| usage.get(name)?.as_u64());
        number.unwrap_or(0)
    }

    fn total(&self) -> u64 {
        self.number("input").saturating_add(self.number("output"))
    }

    /// Of a response; null where nothing is known.
    pub(super) fn of_response(&self) -> Value {
        if self.0.is_none() {
            return Value::Null;
        }
        let cached = self.number("cached");
        json!({
            "input_tokens": self.number("input"),
            "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
            "output_tokens": self.number("output"),
            "output_tokens_details": {"reasoning_tokens": self.number("reasoning")},
            "total_tokens": self.total(),
        })
    }

    /// Of a chat completion; null where nothing is known.
    pub(super) fn of_chat(&self) -> Value {
        if self.0.is_none() {
            return Value::Null;
        }
        json!({
            "prompt_tokens": self.number("input"),
            "completion_tokens": self.number("output"),
            "total_tokens": self.total(),
            "prompt_tokens_details": {"cached_tokens": self.number("cached"), "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": self.number("reasoning"), "audio_tokens": 0,
                "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
            },
        })
    }
}
