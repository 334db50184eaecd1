//! Runs whose events are the answer of a model's HTTP API.
//!
//! | module | what |
//! | --- | --- |
//! | `exchange` | one run: asks, retries, and gives events as the stream is polled |
//! | `body` | a request, and its answer's body with the timeouts |
//! | `spec` | what is configured: where, with which key, which model, how long to wait |
//! | `frames` | the body to frames, by its media type |
//! | `answer` | text, reasoning and tool calls as they come, to events |
//! | `history` | a run's input to turns of a conversation |
//! | `fault` | what goes wrong, as the end of a run |
//! | `think` | reasoning that stands in the content |
//! | `openai_chat`, `anthropic`, `responses`, `gemini`, `ollama` | a dialect each: what is asked, and what a frame means |
//!
//! # Adding a dialect
//!
//! A module that implements `Dialect` and `Reader`, both pure, a variant of [`Api`], which makes it
//! a kind of the configuration, and a recorded answer in `tests/sources/fixtures`.

mod answer;
mod anthropic;
mod body;
mod exchange;
mod fault;
mod frames;
mod gemini;
mod history;
mod ollama;
mod openai_chat;
mod options;
mod responses;
mod spec;
#[cfg(test)]
mod testing;
mod think;

use std::{fmt, sync::Arc};

use futures_util::{StreamExt, stream};
use segue_core::{ClientApi, InboundStream, ModelOptions, RunError, RunInput, Source, StopSignal};
use serde_json::{Map, Value};

pub use self::spec::{Secret, UpstreamError, UpstreamLimits, UpstreamSpec};
use self::{
    answer::Answer,
    exchange::Exchange,
    fault::Fault,
    frames::{Frame, Framing},
    options::Options,
};

/// What one API is asked, and what it answers. Pure: no IO, no clock.
trait Dialect: Send + Sync {
    /// The path below the base URL, for a model.
    fn path(&self, model: &str) -> String;

    /// The header that carries the key, and what stands before the key in it.
    fn key_header(&self) -> (&'static str, &'static str) {
        ("authorization", "Bearer ")
    }

    /// Headers that every request has.
    fn headers(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// How the body is framed where its media type does not say.
    fn framing(&self) -> Framing;

    /// The fields of the request's body, which parameters can change. Fails with a message for a
    /// person when the run's input cannot be said in this dialect.
    fn body(&self, model: &str, system: Option<&str>, input: &Value) -> Result<Fields, String>;

    /// The API whose fields it takes as they are.
    fn own_api(&self) -> Option<ClientApi> {
        None
    }

    /// The fields that ask for what a client of another API asks for.
    fn options(&self, asked: &Options) -> Fields;

    /// Begins to read an answer.
    fn reader(&self) -> Box<dyn Reader>;
}

/// The fields of an object.
type Fields = Map<String, Value>;

fn fields<const N: usize>(fields: [(&str, Value); N]) -> Fields {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The numbers among these, as a usage in our names. `None` if there are none.
fn usage_of<const N: usize>(numbers: [(&str, &Value); N]) -> Option<Value> {
    let known = numbers.into_iter().filter(|(_, value)| value.is_number());
    let known: Fields = known.map(|(name, value)| (name.to_owned(), value.clone())).collect();
    (!known.is_empty()).then_some(Value::Object(known))
}

/// Reads one answer.
trait Reader: Send {
    /// Takes what a frame says into the answer.
    fn frame(&mut self, frame: &Frame, answer: &mut Answer) -> Result<(), Fault>;

    /// The body has ended: gives what was held back.
    fn finish(&mut self, answer: &mut Answer);
}

/// The APIs that are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// An OpenAI-compatible `POST {base_url}/chat/completions`.
    OpenAiChat,
    /// Responses of `OpenAI`, `POST {base_url}/responses`.
    OpenAiResponses,
    /// Anthropic's `POST {base_url}/messages`.
    Anthropic,
    /// Google's `POST {base_url}/models/{model}:streamGenerateContent`.
    Gemini,
    /// Ollama's `POST {base_url}/chat`.
    Ollama,
}

impl Api {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::OpenAiChat, Self::OpenAiResponses, Self::Anthropic, Self::Gemini, Self::Ollama];

    /// Its name as a kind of source.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenAiChat => "openai-chat",
            Self::OpenAiResponses => "openai-responses",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Ollama => "ollama",
        }
    }

    /// Where its maker serves it.
    pub fn base_url(self) -> &'static str {
        match self {
            Self::OpenAiChat | Self::OpenAiResponses => "https://api.openai.com/v1",
            Self::Anthropic => "https://api.anthropic.com/v1",
            Self::Gemini => "https://generativelanguage.googleapis.com/v1beta",
            Self::Ollama => "http://127.0.0.1:11434/api",
        }
    }

    fn dialect(self) -> Arc<dyn Dialect> {
        match self {
            Self::OpenAiChat => Arc::new(openai_chat::OpenAiChat),
            Self::OpenAiResponses => Arc::new(responses::Responses),
            Self::Anthropic => Arc::new(anthropic::Anthropic),
            Self::Gemini => Arc::new(gemini::Gemini),
            Self::Ollama => Arc::new(ollama::Ollama),
        }
    }
}

/// What a body that comes in these chunks becomes, for fuzzers: its events, then its end or fault.
pub(crate) fn digest(api: Api, chunks: &[&[u8]], max: usize) -> Vec<String> {
    let dialect = api.dialect();
    let mut frames = frames::Frames::new(dialect.framing(), max);
    let mut answer = Answer::new("r", max);
    let mut reader = dialect.reader();
    let mut read = |answer: &mut Answer| -> Result<(), Fault> {
        for chunk in chunks {
            frames.feed(chunk);
            while let Some(frame) = frames.next()? {
                reader.frame(&frame, answer)?;
                if answer.is_done() {
                    return Ok(());
                }
            }
        }
        frames.finish().map_or(Ok(()), |last| reader.frame(&last, answer))
    };
    let read = read(&mut answer);
    reader.finish(&mut answer);
    let end = read.and_then(|()| answer.close()).map(|()| format!("{:?}", answer.end()));
    let json = |event: segue_core::Event| String::from_utf8_lossy(event.json()).into_owned();
    let mut told: Vec<String> = std::iter::from_fn(|| answer.next()).map(json).collect();
    told.push(end.unwrap_or_else(|fault| fault.code.to_owned()));
    told
}

/// The source of runs that a model answers over HTTP.
///
/// An answer that comes whole is `finished`. Otherwise the run is `interrupted{upstream_eof}`
/// where the body ended without saying that it had, and else `failed` with one of the codes
/// `upstream_unreachable`, `upstream_timeout`, `upstream_unauthorized`, `upstream_rate_limited`,
/// `upstream_refused`, `upstream_failed`, `upstream_redirect`, `upstream_not_a_stream`,
/// `upstream_error`, `upstream_malformed`, `upstream_too_large`. What may pass is asked again
/// before the first content, never after.
#[derive(Clone)]
pub struct UpstreamSource {
    spec: Arc<UpstreamSpec>,
    dialect: Arc<dyn Dialect>,
    client: reqwest::Client,
}

impl UpstreamSource {
    /// A model behind an API.
    ///
    /// Fails with [`UpstreamError`] when `spec` could never be used.
    pub fn new(api: Api, spec: UpstreamSpec) -> Result<Self, UpstreamError> {
        let dialect = api.dialect();
        let client = spec.client(&*dialect)?;
        Ok(Self { spec: Arc::new(spec), dialect, client })
    }
}

impl Source for UpstreamSource {
    /// How a model's words are cut into frames means nothing.
    fn merges_deltas(&self) -> bool {
        true
    }

    fn history_bytes(&self) -> usize {
        self.spec.history_bytes
    }

    /// Objects that are configured keep the fields that nothing is asked of.
    fn params(&self, options: &ModelOptions) -> Result<Value, String> {
        let mut fields = if self.dialect.own_api() == Some(options.api) {
            options.fields.clone()
        } else {
            self.dialect.options(&Options::of(options)?)
        };
        for (name, value) in &mut fields {
            if let (Some(Value::Object(known)), Value::Object(asked)) =
                (self.spec.params.get(name), &value)
            {
                let both = known.iter().chain(asked);
                *value = both.map(|(name, value)| (name.clone(), value.clone())).collect();
            }
        }
        Ok(Value::Object(fields))
    }

    /// `params` are fields of the request's body; they win over the configured ones.
    fn check(&self, params: &Value) -> Result<(), RunError> {
        spec::check_params(params).map_err(|why| RunError::new("bad_params", why))
    }

    fn start(&self, input: RunInput, stop: StopSignal) -> InboundStream {
        let next =
            async |mut exchange: Exchange| exchange.next().await.map(|given| (given, exchange));
        Box::pin(stream::unfold(Exchange::new(self.clone(), input, stop), next).fuse())
    }
}

impl fmt::Debug for UpstreamSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamSource").field("spec", &self.spec).finish_non_exhaustive()
    }
}
