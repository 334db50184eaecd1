//! What a client of a model's API asks for beside what it says.

use serde_json::{Map, Value};

/// An API that clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientApi {
    /// Chat Completions of `OpenAI`.
    OpenAiChat,
    /// Responses of `OpenAI`.
    OpenAiResponses,
}

/// Fields of a request, such as tools and a temperature. A source makes of them the parameters of
/// a start, as far as it can.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelOptions {
    /// Whose words they are.
    pub api: ClientApi,
    /// The fields, without those that say what is asked and how it is answered.
    pub fields: Map<String, Value>,
}
