//! The routes: one file per resource. `docs/wire.md` describes every one.
//!
//! Every handler takes a [`Call`](crate::app::Call), and so a principal.

mod agents;
mod ai_sdk;
mod append;
mod control;
pub(crate) mod cursor;
mod events;
mod front;
mod messages;
mod openai;
mod ops;
mod page;
mod runs;
mod sessions;
mod start;
mod stop;
mod stream;
mod transfer;

use axum::{
    Router,
    routing::{get, post},
};

use crate::{
    app::App,
    error::{Code, Problem},
};

pub(crate) use front::Front;

/// All routes. They are reached through the [`Front`] only.
fn router(app: App) -> Router {
    let chat = app.ai_sdk_prefix().to_owned();
    let of_chat = get(ai_sdk::resume).post(ai_sdk::stop);
    Router::new()
        .route(&chat, post(ai_sdk::send))
        .route(&format!("{chat}/{{*rest}}"), of_chat)
        .route("/", get(page::page))
        .route("/segue-resume.js", get(page::resume))
        .route("/healthz", get(ops::healthz))
        .route("/readyz", get(ops::readyz))
        .route("/metrics", get(ops::metrics))
        .route("/v1/agents", get(agents::list))
        .route("/v1/sessions", get(sessions::list).post(sessions::create))
        .route(
            "/v1/sessions/{sid}",
            get(sessions::show).patch(sessions::update).delete(sessions::delete),
        )
        .route("/v1/sessions/{sid}/runs", post(start::start))
        .route("/v1/sessions/{sid}/export", get(transfer::export))
        .route("/v1/import", post(transfer::import))
        .route("/v1/backup", post(transfer::backup))
        .route("/v1/sessions/{sid}/fork", post(sessions::fork))
        .route("/v1/sessions/{sid}/stop", post(stop::session))
        .route("/v1/sessions/{sid}/messages", get(messages::list).post(messages::create))
        .route("/v1/messages/{mid}", get(messages::show).delete(messages::delete))
        .route("/v1/search", get(messages::search))
        .route("/v1/runs", get(runs::list))
        .route("/v1/runs/{rid}", get(runs::show))
        .route("/v1/runs/{rid}/events", get(events::events).post(append::append))
        .route("/v1/runs/{rid}/control", get(control::control))
        .route("/v1/runs/{rid}/stop", post(stop::run))
        .route("/v1/runs/{rid}/rollback", post(messages::roll_back))
        .merge(openai::routes(&app))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .with_state(app)
}

async fn no_route() -> Problem {
    Problem::new(Code::NotFound, "there is nothing at this path")
}

async fn no_method() -> Problem {
    Problem::new(Code::MethodNotAllowed, "the path does not have this method")
}
