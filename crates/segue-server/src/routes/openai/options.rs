//! What a request asks of the model beside its input.

use segue_core::{AgentName, ClientApi, ModelOptions};
use serde_json::{Map, Value};

use super::refusal::Refusal;
use crate::app::Call;

/// Fields of a request that say what is asked, and how it is answered and kept. All others are the
/// model's.
const OURS: [&str; 15] = [
    "background",
    "contents",
    "conversation",
    "input",
    "instructions",
    "messages",
    "metadata",
    "model",
    "n",
    PARAMS,
    "previous_response_id",
    "prompt",
    "store",
    "stream",
    "stream_options",
];

/// Parameters for the agent in its own words, as in `POST /v1/sessions/{sid}/runs`.
const PARAMS: &str = "params";

/// The parameters of the run that a request starts.
pub(super) fn params(
    call: &Call,
    agent: Option<&AgentName>,
    api: ClientApi,
    body: &Map<String, Value>,
) -> Result<Value, Refusal> {
    let theirs = body.iter().filter(|(name, _)| !OURS.contains(&name.as_str()));
    let fields = theirs.map(|(name, value)| (name.clone(), value.clone())).collect();
    let options = ModelOptions { api, fields };
    let mut params =
        call.engine().params(agent, &options).map_err(|why| Refusal::of_param("tools", why))?;
    match body.get(PARAMS) {
        None | Some(Value::Null) => {}
        Some(Value::Object(own)) => {
            for (name, value) in own {
                params[name.as_str()] = value.clone();
            }
        }
        Some(_) => return Err(Refusal::of_param(PARAMS, "`params` is an object")),
    }
    Ok(params)
}
