//! What a start may ask of a replay.

use segue_core::RunError;
use serde::Deserialize;
use serde_json::Value;

const MAX_REPEAT: u32 = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Params {
    pub(super) speed: f64,
    pub(super) repeat: u32,
}

impl Default for Params {
    fn default() -> Self {
        Self { speed: 1.0, repeat: 1 }
    }
}

impl Params {
    /// Reads the parameters of a start; null is none.
    pub(super) fn read(params: &Value) -> Result<Self, RunError> {
        if params.is_null() {
            return Ok(Self::default());
        }
        let read = params.is_object().then(|| Self::deserialize(params).ok()).flatten();
        read.filter(|read| read.speed >= 0.0 && (1..=MAX_REPEAT).contains(&read.repeat))
            .ok_or_else(bad_params)
    }
}

fn bad_params() -> RunError {
    RunError::new(
        "bad_params",
        format!(
            "the params of a replay are {{\"speed\": a number from 0, \"repeat\": an integer from \
             1 to {MAX_REPEAT}}}, both optional"
        ),
    )
}
