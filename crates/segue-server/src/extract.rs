//! Parts of a request, read into the types of the vocabulary or refused with a problem.

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Path, Request},
};
use bytes::Bytes;
use http::{HeaderMap, header, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use segue_core::IdError;
use serde::de::DeserializeOwned;

use crate::{
    app::App,
    error::{Code, Problem},
};

/// The id in the path, checked before anything is looked up.
pub(crate) struct PathId<T>(pub(crate) T);

impl<T, S> FromRequestParts<S> for PathId<T>
where
    T: std::str::FromStr<Err = IdError>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = Path::<String>::from_request_parts(parts, state).await;
        let Path(text) = text.map_err(|_| Problem::new(Code::BadId, "the id is not UTF-8"))?;
        Ok(Self(text.parse()?))
    }
}

/// The query, of which unknown names are passed over.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        axum::extract::Query::try_from_uri(&parts.uri)
            .map(|query| Self(query.0))
            .map_err(|error| Problem::new(Code::BadQuery, error.body_text()))
    }
}

/// A small body of `application/json`; an empty one is an empty object.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let is_json = Media::of(request.headers()) == Media::Json;
        let has_type = request.headers().contains_key(header::CONTENT_TYPE);
        if has_type && !is_json {
            return Err(bad_content_type("application/json"));
        }
        let body = whole(request.into_body(), app.body_bytes()).await?;
        match body.trim_ascii() {
            b"" => parse(b"{}"),
            _ if !is_json => Err(bad_content_type("application/json")),
            text => parse(text),
        }
    }
}

/// Serde would also take a list for the fields in their order, which no client means.
fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<Json<T>, Problem> {
    if !text.starts_with(b"{") {
        return Err(Problem::new(Code::Malformed, "the body must be a JSON object"));
    }
    let read = serde_json::from_slice(text).map(Json);
    read.map_err(|error| Problem::new(Code::Malformed, error.to_string()))
}

/// The whole body, up to `max` bytes.
pub(crate) async fn whole(body: Body, max: usize) -> Result<Bytes, Problem> {
    if http_body::Body::size_hint(&body).lower() > u64::try_from(max).unwrap_or(u64::MAX) {
        return Err(body_too_large(max));
    }
    match Limited::new(body, max).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(body_too_large(max)),
        Err(_) => Err(Problem::new(Code::Malformed, "the body stopped half-way")),
    }
}

pub(crate) fn body_too_large(max: usize) -> Problem {
    Problem::new(Code::BodyTooLarge, format!("a body has at most {max} bytes"))
}

pub(crate) fn bad_content_type(needed: &str) -> Problem {
    Problem::new(Code::BadContentType, format!("the body must be {needed}"))
}

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    Json,
    Ndjson,
    Other,
}

impl Media {
    /// Reads `Content-Type`, parameters aside.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media = value.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
        if media.eq_ignore_ascii_case("application/json") {
            Self::Json
        } else if media.eq_ignore_ascii_case("application/x-ndjson") {
            Self::Ndjson
        } else {
            Self::Other
        }
    }
}
