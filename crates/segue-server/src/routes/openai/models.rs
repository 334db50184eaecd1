//! `GET /models` and `GET /models/{id}`: the agents.

use axum::Json;
use segue_engine::AgentView;
use serde_json::{Value, json};

use super::{Caller, Id, refusal::Refusal};

/// All agents. It is one page.
pub(super) async fn list(Caller(call): Caller) -> Json<Value> {
    let models: Vec<Value> = call.engine().agents().iter().map(model).collect();
    Json(json!({"object": "list", "data": models}))
}

/// One agent.
pub(super) async fn show(Caller(call): Caller, Id(id): Id) -> Result<Json<Value>, Refusal> {
    let agents = call.engine().agents();
    let agent = agents.iter().find(|agent| agent.name.as_str() == id);
    agent.map(|agent| Json(model(agent))).ok_or_else(|| Refusal::of_model(&id))
}

/// When an agent was made is not known.
fn model(agent: &AgentView) -> Value {
    json!({"id": agent.name, "object": "model", "created": 0, "owned_by": agent.kind})
}
