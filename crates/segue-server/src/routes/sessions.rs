//! `/v1/sessions` and `/v1/sessions/{sid}`.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use segue_core::{MessageId, SessionId};
use segue_engine::{CreateSession, ForkSession, List, SessionQuery, SessionView, UpdateSession};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::{
    app::Call,
    error::{Code, Problem},
    extract::{self, PathId, Query},
};

/// A session with the clients that are attached to its active runs.
#[derive(Serialize)]
pub(super) struct Shown {
    #[serde(flatten)]
    session: SessionView,
    clients: u64,
}

impl Shown {
    fn new(call: &Call, session: SessionView) -> Self {
        Self { clients: call.clients(&session.active_runs), session }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateBody {
    id: Option<SessionId>,
    title: Option<String>,
    metadata: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateBody {
    /// `null` takes the title away, absence leaves it.
    #[serde(default, deserialize_with = "present")]
    #[expect(clippy::option_option, reason = "absent, null and a text are three things")]
    title: Option<Option<String>>,
    metadata: Option<Map<String, Value>>,
}

#[expect(clippy::option_option, reason = "absent, null and a text are three things")]
fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(value).map(Some)
}

#[derive(Deserialize)]
pub(super) struct ListQuery {
    after: Option<String>,
    #[serde(default)]
    limit: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ForkBody {
    at: Option<MessageId>,
    id: Option<SessionId>,
    title: Option<String>,
    metadata: Option<Map<String, Value>>,
}

pub(super) async fn create(
    call: Call,
    extract::Json(body): extract::Json<CreateBody>,
) -> Result<Response, Problem> {
    let CreateBody { id, title, metadata } = body;
    let request = CreateSession { id, title, metadata: metadata.map(Value::Object) };
    let session = call.engine().create_session(call.tenant(), request).await?;
    Ok(created(&call, session))
}

/// A copy of the conversation, to go on from there another way.
pub(super) async fn fork(
    call: Call,
    PathId(session): PathId<SessionId>,
    extract::Json(body): extract::Json<ForkBody>,
) -> Result<Response, Problem> {
    let ForkBody { at, id, title, metadata } = body;
    let request = ForkSession { at, id, title, metadata: metadata.map(Value::Object) };
    let session = call.engine().fork_session(call.tenant(), &session, request).await?;
    Ok(created(&call, session))
}

pub(super) fn created(call: &Call, session: SessionView) -> Response {
    let path = format!("/v1/sessions/{}", session.id);
    let path = HeaderValue::from_str(&path).expect("an id is plain ASCII");
    let shown = Json(Shown::new(call, session));
    (StatusCode::CREATED, [(header::LOCATION, path)], shown).into_response()
}

pub(super) async fn list(
    call: Call,
    Query(query): Query<ListQuery>,
) -> Result<Json<List<Shown>>, Problem> {
    let query = SessionQuery { after: query.after, limit: query.limit };
    let List { data, next } = call.engine().sessions(call.tenant(), query).await?;
    let data = data.into_iter().map(|session| Shown::new(&call, session)).collect();
    Ok(Json(List { data, next }))
}

pub(super) async fn show(
    call: Call,
    PathId(id): PathId<SessionId>,
) -> Result<Json<Shown>, Problem> {
    let session = call.engine().session(call.tenant(), &id).await?;
    let session =
        session.ok_or_else(|| Problem::new(Code::NotFound, "there is no such session"))?;
    Ok(Json(Shown::new(&call, session)))
}

/// Answered when nobody sees the session any more; what is stored of it goes soon after.
pub(super) async fn delete(
    call: Call,
    PathId(id): PathId<SessionId>,
) -> Result<StatusCode, Problem> {
    call.principal.need_admin("the deletion of a session")?;
    call.engine().delete_session(call.tenant(), &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn update(
    call: Call,
    PathId(id): PathId<SessionId>,
    extract::Json(body): extract::Json<UpdateBody>,
) -> Result<Json<Shown>, Problem> {
    let update = UpdateSession { title: body.title, metadata: body.metadata.map(Value::Object) };
    let session = call.engine().update_session(call.tenant(), &id, update).await?;
    Ok(Json(Shown::new(&call, session)))
}
