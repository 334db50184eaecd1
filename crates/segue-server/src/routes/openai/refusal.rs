//! What is refused, as `OpenAI`'s clients read it: `{"error": {message, type, param, code}}`.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use segue_engine::StartError;
use serde_json::json;

use crate::{
    error::{Code, Problem},
    facade::Broken,
};

/// Tells clients not to send a request again by themselves.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// A refusal. Its code is the API's own where there is one, else ours.
#[derive(Debug)]
pub(super) struct Refusal {
    problem: Box<Problem>,
    status: Option<StatusCode>,
    code: Option<Cow<'static, str>>,
    param: Option<String>,
    is_final: bool,
}

impl Refusal {
    /// A parameter has a value that it cannot have.
    pub(super) fn of_param(param: impl Into<String>, detail: impl Into<String>) -> Self {
        let refusal = Self::from(Problem::new(Code::Malformed, detail));
        Self { code: Some("invalid_value".into()), param: Some(param.into()), ..refusal }
    }

    /// There is no such model.
    pub(super) fn of_model(model: &str) -> Self {
        let detail = format!("the model `{model}` does not exist: no agent has this name");
        let refusal = Self::from(Problem::new(Code::UnknownAgent, detail));
        let (code, param) = (Some("model_not_found".into()), Some("model".to_owned()));
        Self { status: Some(StatusCode::NOT_FOUND), code, param, ..refusal }
    }

    /// There is no such thing.
    pub(super) fn not_found(detail: String) -> Self {
        Problem::new(Code::NotFound, detail).into()
    }

    /// The run ended without a whole answer. Sent again by itself, a request would make another
    /// run of it.
    pub(super) fn of_broken(broken: &Broken) -> Self {
        let status = match broken.code.as_str() {
            "bad_input" | "bad_params" => StatusCode::BAD_REQUEST,
            "upstream_rate_limited" => StatusCode::TOO_MANY_REQUESTS,
            "stopped" => StatusCode::CONFLICT,
            _ => StatusCode::BAD_GATEWAY,
        };
        let refusal = Self::from(Problem::new(Code::RunEnded, broken.message.clone()));
        let code = Some(Cow::Owned(broken.code.clone()));
        Self { status: Some(status), code, is_final: true, ..refusal }
    }

    /// With the API's own code.
    pub(super) fn with_code(self, code: &'static str) -> Self {
        Self { code: Some(code.into()), ..self }
    }

    fn kind(status: StatusCode) -> &'static str {
        match status {
            StatusCode::FORBIDDEN => "permission_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        }
    }
}

impl<P: Into<Problem>> From<P> for Refusal {
    fn from(problem: P) -> Self {
        let problem = Box::new(problem.into());
        Self { problem, status: None, code: None, param: None, is_final: false }
    }
}

/// A start's refusal. Without an agent it is the model that is missing; `input` is where the input
/// was.
pub(super) fn of_start(error: StartError, input: &str) -> Refusal {
    match error {
        StartError::UnknownAgent(name) => Refusal::of_model(name.as_str()),
        StartError::NoAgent => {
            let detail = "`model` names an agent and is missing: there is no default one";
            Refusal::of_param("model", detail).with_code("missing_required_parameter")
        }
        StartError::BadInput(error) => Refusal::of_param(input, error.to_string()),
        StartError::BadParams(why) => Refusal::of_param("params", why).with_code("bad_params"),
        error => error.into(),
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let code = self.code.unwrap_or_else(|| self.problem.code().as_str().into());
        let message = self.problem.detail().to_owned();
        let mut response = self.problem.into_response();
        let status = self.status.unwrap_or_else(|| response.status());
        let kind = Self::kind(status);
        let error = json!({"message": message, "type": kind, "param": self.param, "code": code});
        *response.status_mut() = status;
        *response.body_mut() = json!({"error": error}).to_string().into();
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.is_final {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        response
    }
}
