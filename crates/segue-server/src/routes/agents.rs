//! `GET /v1/agents`.

use axum::Json;
use segue_engine::{AgentView, List};

use crate::app::Call;

pub(super) async fn list(call: Call) -> Json<List<AgentView>> {
    Json(List { data: call.engine().agents(), next: None })
}
