//! `/v1/sessions/{sid}/messages`, `/v1/messages/{mid}` and `/v1/search`.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use segue_core::{
    MessageId, RunId, SessionId,
    fold::{Message, Role, said},
};
use segue_engine::{CreateMessage, List, MessageQuery, SearchHit, SearchQuery};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    app::Call,
    error::{Code, Problem},
    extract::{self, PathId, Query},
};

/// What of a body is beside the message itself.
#[derive(Deserialize)]
struct Beside {
    #[serde(default)]
    is_summary: bool,
    replaces: Option<MessageId>,
}

/// What the message itself may have.
const OF_MESSAGE: [&str; 6] = ["id", "role", "parts", "content", "tool_call_id", "metadata"];
/// What a body may have beside it.
const BESIDE: [&str; 2] = ["is_summary", "replaces"];

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    /// The oldest first.
    #[default]
    Asc,
    /// The newest first.
    Desc,
}

#[derive(Deserialize)]
pub(super) struct ListQuery {
    role: Option<String>,
    #[serde(default)]
    superseded: bool,
    #[serde(default)]
    order: Order,
    after: Option<String>,
    #[serde(default)]
    limit: usize,
}

#[derive(Deserialize)]
pub(super) struct FindQuery {
    q: String,
    session: Option<SessionId>,
    role: Option<String>,
    #[serde(default)]
    superseded: bool,
    after: Option<String>,
    #[serde(default)]
    limit: usize,
}

/// A session that does not exist is made, as by a start.
pub(super) async fn create(
    call: Call,
    PathId(session): PathId<SessionId>,
    extract::Json(body): extract::Json<Map<String, Value>>,
) -> Result<Response, Problem> {
    let request = request_of(body)?;
    let message = call.engine().create_message(call.tenant(), &session, request).await?;
    let path = format!("/v1/messages/{}", message.id);
    let path = HeaderValue::from_str(&path).expect("an id is plain ASCII");
    Ok((StatusCode::CREATED, [(header::LOCATION, path)], Json(message)).into_response())
}

pub(super) async fn list(
    call: Call,
    PathId(session): PathId<SessionId>,
    Query(query): Query<ListQuery>,
) -> Result<Json<List<Message>>, Problem> {
    if call.engine().session(call.tenant(), &session).await?.is_none() {
        return Err(Problem::new(Code::NotFound, "there is no such session"));
    }
    let query = MessageQuery {
        session: Some(session),
        role: query.role.as_deref().map(role_of).transpose()?,
        superseded: query.superseded,
        newest_first: matches!(query.order, Order::Desc),
        after: query.after,
        limit: query.limit,
    };
    Ok(Json(call.engine().messages(call.tenant(), query).await?))
}

pub(super) async fn show(
    call: Call,
    PathId(id): PathId<MessageId>,
) -> Result<Json<Message>, Problem> {
    let message = call.engine().message(call.tenant(), &id).await?;
    Ok(Json(message.ok_or_else(|| Problem::new(Code::NotFound, "there is no such message"))?))
}

pub(super) async fn delete(
    call: Call,
    PathId(id): PathId<MessageId>,
) -> Result<StatusCode, Problem> {
    call.principal.need_admin("the deletion of a message")?;
    call.engine().delete_message(call.tenant(), &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Serialize)]
pub(super) struct RolledBack {
    deleted: Vec<MessageId>,
}

pub(super) async fn roll_back(
    call: Call,
    PathId(run): PathId<RunId>,
) -> Result<Json<RolledBack>, Problem> {
    call.principal.need_admin("the deletion of a run's messages")?;
    let deleted = call.engine().roll_back(call.tenant(), &run).await?;
    Ok(Json(RolledBack { deleted }))
}

pub(super) async fn search(
    call: Call,
    Query(query): Query<FindQuery>,
) -> Result<Json<List<SearchHit>>, Problem> {
    let query = SearchQuery {
        text: query.q,
        session: query.session,
        role: query.role.as_deref().map(role_of).transpose()?,
        superseded: query.superseded,
        after: query.after,
        limit: query.limit,
    };
    Ok(Json(call.engine().search(call.tenant(), query).await?))
}

fn role_of(text: &str) -> Result<Role, Problem> {
    let roles = "a role is assistant, user, system or tool";
    Role::parse(text).ok_or_else(|| Problem::new(Code::BadQuery, roles))
}

fn request_of(mut body: Map<String, Value>) -> Result<CreateMessage, Problem> {
    let malformed = |detail: String| Problem::new(Code::Malformed, detail);
    let is_known = |field: &str| OF_MESSAGE.contains(&field) || BESIDE.contains(&field);
    if let Some(unknown) = body.keys().find(|field| !is_known(field)) {
        return Err(malformed(format!("a message has no field `{unknown}`")));
    }
    let beside = BESIDE.into_iter().filter_map(|field| body.remove_entry(field)).collect();
    let beside = Beside::deserialize(Value::Object(beside));
    let Beside { is_summary, replaces } = beside.map_err(|error| malformed(error.to_string()))?;
    body.entry("role").or_insert_with(|| Role::User.as_str().into());
    let said = said::one(&Value::Object(body)).map_err(|error| malformed(error.to_string()))?;
    Ok(CreateMessage { said, is_summary, replaces })
}
