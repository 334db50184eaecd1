//! `OpenAI`'s API, as its clients have it below their base URL.
//!
//! | file | what |
//! | --- | --- |
//! | `responses` | `POST /responses`, and what is done with one: retrieve, cancel, delete |
//! | `chat` | `POST /chat/completions`, and `GET` and `DELETE` of one |
//! | `models` | the agents |
//! | `start` | a run for a request, or the one that the same request started before |
//! | `chain` | `previous_response_id`: which session goes on, and with what |
//! | `input` | a response's input items to messages, and back |
//! | `messages` | a chat's messages to ours |
//! | `options` | what is asked of the model beside its input |
//! | `follow` | a run's stream |
//! | `whole` | a run at rest, and the wait for its end |
//! | `refusal` | what is refused, in the API's own shape |

mod chain;
mod chat;
mod follow;
mod input;
mod messages;
mod models;
mod options;
mod refusal;
mod responses;
mod start;
mod whole;

use axum::{
    Router,
    extract::{FromRequestParts, OriginalUri, Path, Request},
    routing::{any, get, post},
};
use http::request::Parts;
use segue_engine::{RunQuery, RunView};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use self::refusal::Refusal;
use crate::{
    app::{App, Call},
    error::{Code, Problem},
    extract,
};

/// The routes, at their place below the prefix.
pub(super) fn routes(app: &App) -> Router<App> {
    let prefix = app.openai_prefix();
    let at = |path: &str| format!("{prefix}{path}");
    let one = get(responses::retrieve).delete(responses::delete);
    Router::new()
        .route(&at("/responses"), post(responses::create))
        .route(&at("/responses/{id}"), one)
        .route(&at("/responses/{id}/cancel"), post(responses::cancel))
        .route(&at("/responses/{id}/input_items"), get(responses::input_items))
        .route(&at("/chat/completions"), post(chat::create))
        .route(&at("/chat/completions/{id}"), get(chat::retrieve).delete(chat::delete))
        .route(&at("/models"), get(models::list))
        .route(&at("/models/{id}"), get(models::show))
        .route(prefix, any(no_route))
        .route(&at("/"), any(no_route))
        .route(&at("/{*rest}"), any(no_route))
        .method_not_allowed_fallback(no_method)
}

async fn no_route(OriginalUri(uri): OriginalUri) -> Refusal {
    Problem::new(Code::NotFound, format!("there is nothing at {}", uri.path())).into()
}

async fn no_method() -> Refusal {
    Problem::new(Code::MethodNotAllowed, "the path does not have this method").into()
}

/// A call of somebody who may show any token: clients of this API always send one.
struct Caller(Call);

impl FromRequestParts<App> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        Ok(Self(Call::of_any(app, &parts.headers)))
    }
}

/// The id in the path, which may be any text.
struct Id(String);

impl FromRequestParts<App> for Id {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        match Path::from_request_parts(parts, app).await {
            Ok(Path(id)) => Ok(Self(id)),
            Err(_) => Err(Problem::new(Code::BadId, "the id is not UTF-8").into()),
        }
    }
}

/// The query, of which unknown names are passed over.
struct Query<T>(T);

impl<T: DeserializeOwned> FromRequestParts<App> for Query<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        Ok(Self(extract::Query::from_request_parts(parts, app).await?.0))
    }
}

/// The fields of a request's body. Those that nobody knows are passed over.
async fn body_of(request: Request, app: &App) -> Result<Map<String, Value>, Refusal> {
    use axum::extract::FromRequest as _;
    Ok(extract::Json::<Map<String, Value>>::from_request(request, app).await?.0)
}

/// A flag of a request's body.
fn flag(body: &Map<String, Value>, name: &str) -> Result<bool, Refusal> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(Refusal::of_param(name, format!("`{name}` is true or false"))),
    }
}

/// Deletes the session of a run that is alone in it, which is what can be deleted.
async fn delete(call: &Call, run: &RunView) -> Result<(), Refusal> {
    call.principal.need_admin("deleting an answer")?;
    let session = &run.session_id;
    let query = RunQuery { session: Some(session.clone()), limit: 2, ..RunQuery::default() };
    if call.engine().runs(call.tenant(), query).await?.data.len() > 1 {
        let detail = format!(
            "the answer is part of a conversation, which is deleted as a whole: \
             DELETE /v1/sessions/{session}"
        );
        return Err(Refusal::of_param("id", detail).with_code("part_of_conversation"));
    }
    Ok(call.engine().delete_session(call.tenant(), session).await?)
}
