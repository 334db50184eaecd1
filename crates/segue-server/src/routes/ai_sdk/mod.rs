//! The Vercel AI SDK's chat transport: `POST {prefix}` starts a run, `GET {prefix}/{id}/stream`
//! resumes, `POST {prefix}/{id}/stop` stops. The facade is `facade/ai_sdk`.
//!
//! A client shows the text of a refusal to its user, so refusals are plain text. A chat is a
//! session. Its id may be any text; one that is not an id of ours stands for its digest.

mod asked;

use std::fmt::Write as _;

use axum::{
    extract::{FromRequest as _, Path, Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use segue_core::{AgentName, Policy, RunId, RunStatus, Seq, SessionId};
use segue_engine::{RunQuery, RunView, StartError, StartKey, StartRun, StopError, StopRequest};
use serde::Deserialize;
use serde_json::{Value, json};

use asked::{Asked, Wish};

use super::{
    cursor::Start,
    stream::{after_frame, over, stream},
};
use crate::{
    app::{App, Call},
    body::Follow,
    digest::digest,
    error::{Code, Problem},
    extract::{self, Query},
    facade::AiSdk,
};

const PROTOCOL: HeaderName = HeaderName::from_static("x-vercel-ai-ui-message-stream");
/// Where a run's metadata keeps which message of the chat it answers.
const MARK: &str = "ai_sdk";

/// A refusal in the protocol's own shape: its text is shown to the user.
pub(super) struct Told(Problem);

impl<P: Into<Problem>> From<P> for Told {
    fn from(problem: P) -> Self {
        Self(problem.into())
    }
}

impl IntoResponse for Told {
    fn into_response(self) -> Response {
        let text = self.0.detail().to_owned();
        let mut response = self.0.into_response();
        *response.body_mut() = text.into();
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, plain);
        response.headers_mut().remove(header::CONTENT_LENGTH);
        response
    }
}

/// What the transport sends. Apps add fields of their own, which are passed over.
#[derive(Deserialize)]
struct ChatBody {
    id: Option<String>,
    messages: Option<Vec<Value>>,
    message: Option<Value>,
    trigger: Option<String>,
    #[serde(rename = "messageId")]
    message_id: Option<String>,
    model: Option<Value>,
    agent: Option<Value>,
}

#[derive(Deserialize)]
pub(super) struct StopBody {
    #[serde(rename = "activeStreamId")]
    active: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct ResumeQuery {
    run: Option<RunId>,
}

fn malformed(detail: impl Into<String>) -> Problem {
    Problem::new(Code::Malformed, detail)
}

impl ChatBody {
    fn agent(&self) -> Result<Option<AgentName>, Problem> {
        let Some(name) = self.agent.as_ref().or(self.model.as_ref()) else { return Ok(None) };
        let unknown = |_| Problem::new(Code::UnknownAgent, format!("there is no agent {name}"));
        AgentName::parse(name.as_str().unwrap_or_default()).map(Some).map_err(unknown)
    }
}

/// The session of a chat.
fn session_of(chat: &str) -> SessionId {
    SessionId::parse(chat).unwrap_or_else(|_| {
        SessionId::parse(&format!("chat_{}", digest(chat))).expect("hexadecimal digits are in ids")
    })
}

/// Whether a run answers the message and did not break off.
fn answers(run: &RunView, mark: Option<&String>) -> bool {
    let alive = matches!(run.status, RunStatus::Queued | RunStatus::Running | RunStatus::Finished);
    alive && mark.is_some_and(|mark| run.metadata[MARK] == **mark)
}

async fn newest(call: &Call, session: &SessionId) -> Result<Option<RunView>, Problem> {
    let query = RunQuery { session: Some(session.clone()), limit: 1, ..RunQuery::default() };
    Ok(call.engine().runs(call.tenant(), query).await?.data.into_iter().next())
}

/// Starts a run for what the chat asks, or attaches to the one that answers it: a client whose
/// connection broke before the answer's head sends it again.
pub(super) async fn send(State(app): State<App>, request: Request) -> Result<Response, Told> {
    let call = Call::of(&app, request.headers())?;
    let extract::Json(body) = extract::Json::<ChatBody>::from_request(request, &app).await?;
    let chat = body.id.as_deref().filter(|id| !id.is_empty());
    let chat = chat.ok_or_else(|| malformed("`id` names the chat and is missing"))?;
    let (agent, session) = (body.agent()?, session_of(chat));
    let last = newest(&call, &session).await?;
    let wish = Wish::of(&body)?;
    let mark = wish.mark(&body);
    let is_same = |run: &&RunView| {
        let may_be = run.status != RunStatus::Finished || wish.is_answered_once(&body);
        may_be && answers(run, mark.as_ref())
    };
    if let Some(run) = last.as_ref().filter(is_same) {
        return Ok(follow(&call, chat, run, &Start::at(Seq::FIRST)).await?);
    }
    let Asked { input, replaces, continues } = wish.asked(&call, &session, &body).await?;
    let is_stopping = last.as_ref().is_some_and(|run| run.status == RunStatus::Stopping);
    let request = StartRun {
        replaces,
        continues,
        session: Some(session),
        run: None,
        agent,
        source: None,
        input,
        params: json!({}),
        policy: if is_stopping { Policy::Queue } else { Policy::Reject },
        limits: segue_core::Limits::default(),
        on_restart: None,
        metadata: mark.as_ref().map_or_else(|| json!({}), |mark| json!({ MARK: mark })),
        // Two that send the same at once know of the same run before it.
        key: mark.as_ref().map(|mark| StartKey {
            principal: call.principal.name().to_owned(),
            key: format!("{MARK} {mark} {}", last.as_ref().map_or("", |run| run.id.as_str())),
        }),
    };
    let run = match call.engine().start(call.tenant(), request).await {
        Ok(started) => started.run,
        Err(StartError::Busy(id)) => {
            let busy = call.engine().run(call.tenant(), &id).await?;
            let same = busy.filter(|run| answers(run, mark.as_ref()));
            same.ok_or_else(|| Problem::from(StartError::Busy(id)))?
        }
        Err(error) => return Err(error.into()),
    };
    Ok(follow(&call, chat, &run, &Start::at(Seq::FIRST)).await?)
}

/// Resumes the chat's newest run: from its first chunk without a cursor, else exactly after it.
/// 204 if there is nothing to resume, also for a chat that nobody knows.
pub(super) async fn resume(
    State(app): State<App>,
    Path(rest): Path<String>,
    Query(query): Query<ResumeQuery>,
    headers: HeaderMap,
) -> Result<Response, Told> {
    let call = Call::of(&app, &headers)?;
    let chat = rest.strip_suffix("/stream").filter(|chat| !chat.is_empty());
    let chat = chat.ok_or_else(|| Problem::new(Code::NotFound, "there is nothing at this path"))?;
    let session = session_of(chat);
    let cursor = headers.get("last-event-id").map(|id| id.to_str().unwrap_or("?"));
    let run = match query.run {
        Some(run) => call.engine().run(call.tenant(), &run).await?,
        None => newest(&call, &session).await?,
    };
    let Some(run) = run.filter(|run| run.session_id == session) else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    if let Some(cursor) = cursor.filter(|cursor| !cursor.is_empty()) {
        return Ok(resume_after(&call, chat, &run, cursor).await?);
    }
    if !is_fresh(&call, &run) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(follow(&call, chat, &run, &Start::at(Seq::FIRST)).await?)
}

/// Active, or ended a short while ago, so that a page that was away sees the whole answer.
fn is_fresh(call: &Call, run: &RunView) -> bool {
    let grace = u64::try_from(call.numbers().replay_grace.as_millis()).unwrap_or(u64::MAX);
    let now = call.engine().now().as_millis();
    run.ended_at.is_none_or(|at| now < at.as_millis().saturating_add(grace))
}

async fn resume_after(
    call: &Call,
    chat: &str,
    run: &RunView,
    cursor: &str,
) -> Result<Response, Problem> {
    let attached = call.engine().attach(call.tenant(), &run.id)?;
    match after_frame(&attached, cursor)? {
        Some(start) => follow(call, chat, run, &start).await,
        None => {
            let last = attached.info().tail.next.prev();
            Ok(over(attached.outcome()?.as_ref(), last))
        }
    }
}

async fn follow(
    call: &Call,
    chat: &str,
    run: &RunView,
    start: &Start,
) -> Result<Response, Problem> {
    let attached = call.engine().attach(call.tenant(), &run.id)?;
    let mut response = stream(call, &attached, AiSdk::default(), start, Follow::Live).await?;
    let headers = response.headers_mut();
    headers.insert(PROTOCOL, HeaderValue::from_static("v1"));
    let path = format!("{}/{}/stream?run={}", call.ai_sdk_prefix(), escaped(chat), run.id);
    headers.extend(HeaderValue::from_str(&path).ok().map(|path| (header::LOCATION, path)));
    Ok(response)
}

/// A text as one segment of a path.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").unwrap_or_default();
        }
    }
    out
}

/// Stops the chat's run. Idempotent; an `activeStreamId` that is not current stops nothing.
pub(super) async fn stop(
    State(app): State<App>,
    Path(rest): Path<String>,
    request: Request,
) -> Result<Response, Told> {
    let call = Call::of(&app, request.headers())?;
    let chat = rest.strip_suffix("/stop").filter(|chat| !chat.is_empty());
    let chat = chat.ok_or_else(|| Problem::new(Code::NotFound, "there is nothing at this path"))?;
    let extract::Json(body) = extract::Json::<StopBody>::from_request(request, &app).await?;
    let done = axum::Json(json!({"success": true})).into_response();
    let active = match body.active.as_deref().map(RunId::parse) {
        // No id of ours is not current either.
        Some(Err(_)) => return Ok(done),
        Some(Ok(run)) => Some(run),
        None => None,
    };
    let (engine, session) = (call.engine(), session_of(chat));
    let stop = StopRequest::by_user();
    match engine.stop_session(call.tenant(), &session, active.as_ref(), stop).await {
        Ok(_) | Err(StopError::NotFound) => Ok(done),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_is_a_session_whatever_its_id() {
        assert_eq!(session_of("a-b_1").as_str(), "a-b_1");
        let odd = session_of("a/b ü");
        assert!(odd.as_str().starts_with("chat_") && odd != session_of("a/b u"));
        assert_eq!(escaped("a/b ü"), "a%2Fb%20%C3%BC");
    }
}
