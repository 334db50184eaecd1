//! What is configured of an upstream.

use std::{fmt, time::Duration};

use reqwest::{
    Client, Url,
    header::{HeaderMap, HeaderName, HeaderValue},
    redirect,
};
use segue_core::limits;
use serde_json::{Map, Value};

use super::{Dialect, Fields};

/// A key. Never printed, never journaled.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// `text` without the key, should an upstream repeat it.
    pub(super) fn redact(&self, text: &str) -> String {
        if self.0.is_empty() { text.to_owned() } else { text.replace(&self.0, "[key]") }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[key]")
    }
}

/// How long an upstream may take, how often it is asked, and how much it may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamLimits {
    /// From the request to the first byte of the answer's body.
    pub first_byte: Duration,
    /// From one byte of the body to the next.
    pub idle: Duration,
    /// How often a request that failed before its first content is sent again.
    pub retries: u32,
    /// The pause before the first of them; it doubles with each.
    pub pause: Duration,
    /// The cap on a line, a frame, and the input of a tool call, in bytes.
    pub frame_bytes: usize,
}

impl Default for UpstreamLimits {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_mins(2),
            idle: Duration::from_mins(1),
            retries: 2,
            pause: Duration::from_millis(500),
            frame_bytes: limits::EVENT_BYTES,
        }
    }
}

/// Where a model is, and how it is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamSpec {
    /// The API's base, such as `https://api.openai.com/v1`.
    pub base_url: String,
    /// The model's name.
    pub model: String,
    /// The key, where one is needed.
    pub key: Option<Secret>,
    /// What every conversation begins with.
    pub system: Option<String>,
    /// Fields of every request's body besides those that the dialect writes.
    pub params: Map<String, Value>,
    /// How much of the session's conversation the model is told, in bytes; 0 for none of it.
    pub history_bytes: usize,
    /// Times, retries and caps.
    pub limits: UpstreamLimits,
}

/// Why a specification can never be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// Not an absolute URL of http or https without a user, a query and a fragment.
    #[error("`base_url` must be a plain http or https URL, without a user, query or fragment")]
    BaseUrl,
    /// The key cannot stand in a header.
    #[error("the key has characters that no header can hold")]
    Key,
    /// There is no model, or its name has characters that none has.
    #[error("`model` must be the name of a model")]
    Model,
    /// A parameter that the dialect writes itself.
    #[error("{0}")]
    Params(String),
    /// The system's certificates cannot be read.
    #[error("no client could be made: {0}")]
    Client(String),
}

/// About 100,000 tokens.
const HISTORY_BYTES: usize = 400_000;

/// What only a dialect writes.
const OURS: [&str; 4] = ["stream", "messages", "input", "contents"];

/// Refuses parameters that would change what is read.
pub(super) fn check_params(params: &Value) -> Result<(), String> {
    let fields = match params {
        Value::Null => return Ok(()),
        Value::Object(fields) => fields,
        _ => return Err("the parameters must be an object".to_owned()),
    };
    if fields.get("model").is_some_and(|model| !is_model(model)) {
        return Err("the parameter \"model\" must be the name of a model".to_owned());
    }
    match OURS.iter().find(|name| fields.contains_key(**name)) {
        Some(name) => Err(format!("the parameter {name:?} is set by the server")),
        None => Ok(()),
    }
}

/// A name that can stand in a path.
fn is_model(model: &Value) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/@+".contains(c);
    let model = model.as_str().unwrap_or_default();
    !model.is_empty() && model.chars().all(is_plain) && !model.contains("..")
}

impl UpstreamSpec {
    /// A model without a key, a system prompt and parameters.
    pub fn new(base_url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            model: model.into(),
            key: None,
            system: None,
            params: Map::new(),
            history_bytes: HISTORY_BYTES,
            limits: UpstreamLimits::default(),
        }
    }

    /// A client that follows no redirect: the key is for this upstream alone.
    pub(super) fn client(&self, dialect: &dyn Dialect) -> Result<Client, UpstreamError> {
        self.url("")?;
        if !is_model(&self.model.as_str().into()) {
            return Err(UpstreamError::Model);
        }
        let params = Value::Object(self.params.clone());
        check_params(&params).map_err(UpstreamError::Params)?;
        let fixed = dialect
            .headers()
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut headers: HeaderMap = fixed.collect();
        if let Some(Secret(key)) = &self.key {
            let (name, before) = dialect.key_header();
            let value = HeaderValue::try_from(format!("{before}{key}"));
            let mut value = value.map_err(|_| UpstreamError::Key)?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static(name), value);
        }
        let client = Client::builder().redirect(redirect::Policy::none()).default_headers(headers);
        client.build().map_err(|error| UpstreamError::Client(error.to_string()))
    }

    /// The URL of a path below the base.
    pub(super) fn url(&self, path: &str) -> Result<Url, UpstreamError> {
        let base = self.base_url.trim_end_matches('/');
        let url = Url::parse(base).map_err(|_| UpstreamError::BaseUrl)?;
        let plain = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        let whole = Url::parse(&format!("{base}{path}"));
        whole.ok().filter(|_| plain).ok_or(UpstreamError::BaseUrl)
    }

    /// The model that a start is for.
    pub(super) fn model<'a>(&'a self, start: &'a Value) -> &'a str {
        start.get("model").and_then(Value::as_str).unwrap_or(&self.model)
    }

    /// The body with the parameters: those of a start over the configured ones.
    pub(super) fn with_params(&self, mut body: Fields, start: &Value) -> Fields {
        for (name, value) in self.params.iter().chain(start.as_object().into_iter().flatten()) {
            if name != "model" {
                body.insert(name.clone(), value.clone());
            }
        }
        body
    }

    /// `text`, fit to be shown: without the key, and cut.
    pub(super) fn showable(&self, text: &str) -> String {
        const MOST: usize = 500;
        let text = self.key.as_ref().map_or_else(|| text.to_owned(), |key| key.redact(text));
        match text.char_indices().nth(MOST) {
            Some((at, _)) => format!("{}...", &text[..at]),
            None => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::upstream::openai_chat::OpenAiChat;

    fn check(base_url: &str) -> Result<String, UpstreamError> {
        let spec = UpstreamSpec::new(base_url, "m");
        spec.client(&OpenAiChat)?;
        Ok(spec.url("/chat/completions")?.to_string())
    }

    #[test]
    fn a_base_url_is_plain() {
        let url = "http://127.0.0.1:1/v1/chat/completions";
        assert_eq!(check("http://127.0.0.1:1/v1/").as_deref(), Ok(url));
        assert_eq!(check("http://127.0.0.1:1/v1").as_deref(), Ok(url));
        for text in [
            "",
            "http://a/?",
            "v1",
            "ftp://a/",
            "http://u:p@a/",
            "http://a/?k=1",
            "file:///x",
            "http://",
        ] {
            assert_eq!(check(text), Err(UpstreamError::BaseUrl), "{text:?}");
        }
    }

    #[test]
    fn a_key_is_never_shown() {
        let key = Some(Secret::new("sk-123"));
        let spec = UpstreamSpec { key, ..UpstreamSpec::new("http://a", "m") };
        assert_eq!(spec.showable("bad key sk-123."), "bad key [key].");
        assert!(!format!("{spec:?}").contains("sk-123"));
        assert_eq!(spec.showable(&"é".repeat(600)).chars().count(), 503);
        let key = Some(Secret::new("a\nb"));
        assert_eq!(
            UpstreamSpec { key, ..spec }.client(&OpenAiChat).err(),
            Some(UpstreamError::Key)
        );
    }

    #[test]
    fn what_the_server_writes_is_no_parameter() {
        for params in [json!(null), json!({"temperature": 1, "model": "m"})] {
            assert_eq!(check_params(&params), Ok(()));
        }
        for params in
            [json!({"stream": false}), json!({"messages": []}), json!([1]), json!({"model": 1})]
        {
            assert!(check_params(&params).is_err(), "{params}");
        }
    }
}
