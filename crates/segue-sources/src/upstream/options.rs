//! What clients of `OpenAI`'s APIs ask for beside what they say, before any other API's words.

use segue_core::{ClientApi, ModelOptions};
use serde_json::{Map, Value, json};

use super::Fields;

/// What is asked for. Numbers are passed on as they came.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Options {
    pub(super) tools: Vec<Tool>,
    pub(super) choice: Option<ToolChoice>,
    /// Whether several tools may be called at once.
    pub(super) parallel: Option<Value>,
    pub(super) temperature: Option<Value>,
    pub(super) top_p: Option<Value>,
    pub(super) max_tokens: Option<Value>,
    /// Texts that end the answer, a list.
    pub(super) stop: Option<Value>,
    pub(super) seed: Option<Value>,
    /// How much the model shall think.
    pub(super) effort: Option<Value>,
    pub(super) format: Option<Format>,
}

/// A function that the client has.
#[derive(Debug, PartialEq)]
pub(super) struct Tool {
    pub(super) name: String,
    pub(super) description: String,
    parameters: Option<Value>,
    strict: Option<Value>,
}

/// Which tools the model calls.
#[derive(Debug, PartialEq)]
pub(super) enum ToolChoice {
    Auto,
    None,
    Required,
    Function(String),
}

/// What the answer's text is, unless it is any.
#[derive(Debug, PartialEq)]
pub(super) enum Format {
    Json,
    /// With `name`, `schema`, and perhaps `strict` and `description`.
    Schema(Map<String, Value>),
}

/// The fields that have something.
pub(super) fn some<const N: usize>(fields: [(&str, Option<Value>); N]) -> Fields {
    let some = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    some.collect()
}

impl Options {
    /// Fails where the answer would be another one without what is asked.
    pub(super) fn of(options: &ModelOptions) -> Result<Self, String> {
        let fields = &options.fields;
        let of = |name: &str| fields.get(name).filter(|value| !value.is_null()).cloned();
        let tools = fields.get("tools").and_then(Value::as_array).into_iter().flatten();
        let choice = of("tool_choice").map(|choice| ToolChoice::of(&choice)).transpose()?;
        let mut read = Self {
            tools: tools.map(Tool::of).collect::<Result<_, _>>()?,
            choice,
            parallel: of("parallel_tool_calls"),
            temperature: of("temperature"),
            top_p: of("top_p"),
            ..Self::default()
        };
        match options.api {
            ClientApi::OpenAiChat => {
                read.max_tokens = of("max_completion_tokens").or_else(|| of("max_tokens"));
                let list = |stop: Value| if stop.is_array() { stop } else { json!([stop]) };
                read.stop = of("stop").map(list);
                read.seed = of("seed");
                read.effort = of("reasoning_effort");
                read.format = of("response_format").and_then(|format| {
                    let schema = format["json_schema"].as_object();
                    Format::of(&format, schema)
                });
            }
            ClientApi::OpenAiResponses => {
                read.max_tokens = of("max_output_tokens");
                let effort = |reasoning: Value| Some(reasoning["effort"].clone());
                read.effort = of("reasoning").and_then(effort).filter(|effort| !effort.is_null());
                let format = |text: Value| Format::of(&text["format"], text["format"].as_object());
                read.format = of("text").and_then(format);
            }
        }
        Ok(read)
    }

    /// The tools in another API's words; none if there are none.
    pub(super) fn tools_as(&self, tool: impl Fn(&Tool) -> Value) -> Option<Value> {
        let tools: Vec<Value> = self.tools.iter().map(tool).collect();
        (!tools.is_empty()).then(|| tools.into())
    }
}

impl Tool {
    /// A function as either API has it; no other kind of tool can be called elsewhere.
    fn of(tool: &Value) -> Result<Self, String> {
        let function = tool.get("function").unwrap_or(tool);
        match (tool["type"].as_str(), function["name"].as_str()) {
            (Some("function"), Some(name)) => Ok(Self {
                name: name.to_owned(),
                description: function["description"].as_str().unwrap_or_default().to_owned(),
                parameters: function.get("parameters").filter(|value| !value.is_null()).cloned(),
                strict: function.get("strict").filter(|value| !value.is_null()).cloned(),
            }),
            (Some("function") | None, _) => Err("a tool has no type or no name".to_owned()),
            (Some(other), _) => {
                Err(format!("a tool of type {other:?} cannot be given to this model"))
            }
        }
    }

    /// The schema of its input, which may be none.
    pub(super) fn schema(&self) -> Value {
        let none = || json!({"type": "object", "properties": {}});
        self.parameters.clone().unwrap_or_else(none)
    }

    fn fields(&self) -> Fields {
        some([
            ("name", Some(self.name.as_str().into())),
            ("description", Some(self.description.as_str().into())),
            ("parameters", Some(self.schema())),
            ("strict", self.strict.clone()),
        ])
    }

    pub(super) fn of_chat(&self) -> Value {
        json!({"type": "function", "function": self.fields()})
    }

    pub(super) fn of_responses(&self) -> Value {
        let mut tool = self.fields();
        tool.insert("type".to_owned(), "function".into());
        Value::Object(tool)
    }
}

impl ToolChoice {
    fn of(choice: &Value) -> Result<Self, String> {
        let name = || choice["function"]["name"].as_str().or_else(|| choice["name"].as_str());
        match choice.as_str() {
            Some("auto") => Ok(Self::Auto),
            Some("none") => Ok(Self::None),
            Some("required") => Ok(Self::Required),
            None if choice["type"] == "function" && name().is_some() => {
                Ok(Self::Function(name().unwrap_or_default().to_owned()))
            }
            _ => Err(format!("the tool choice {choice} cannot be made for this model")),
        }
    }

    pub(super) fn of_chat(&self) -> Value {
        match self {
            Self::Auto => "auto".into(),
            Self::None => "none".into(),
            Self::Required => "required".into(),
            Self::Function(name) => json!({"type": "function", "function": {"name": name}}),
        }
    }
}

impl Format {
    fn of(format: &Value, schema: Option<&Map<String, Value>>) -> Option<Self> {
        match format["type"].as_str()? {
            "json_object" => Some(Self::Json),
            "json_schema" => {
                let mut schema = schema?.clone();
                schema.remove("type");
                Some(Self::Schema(schema))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use segue_core::Source;

    use super::*;
    use crate::upstream::{Api, UpstreamSource, UpstreamSpec};

    fn chat() -> ModelOptions {
        let fields = json!({
            "tools": [{"type": "function", "function": {
                "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": true,
            }}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "parallel_tool_calls": false, "temperature": 0.5, "top_p": null, "max_tokens": 9,
            "stop": "x", "seed": 7, "reasoning_effort": "low",
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
        });
        let fields = fields.as_object().expect("fields").clone();
        ModelOptions { api: ClientApi::OpenAiChat, fields }
    }

    fn responses() -> ModelOptions {
        let fields = json!({
            "tools": [{"type": "function", "name": "f", "description": "d",
                "parameters": {"type": "object"}, "strict": true}],
            "tool_choice": {"type": "function", "name": "f"},
            "parallel_tool_calls": false, "temperature": 0.5, "max_output_tokens": 9,
            "reasoning": {"effort": "low"},
            "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}},
        });
        let fields = fields.as_object().expect("fields").clone();
        ModelOptions { api: ClientApi::OpenAiResponses, fields }
    }

    fn params(api: Api, options: &ModelOptions) -> Result<Value, String> {
        let mut spec = UpstreamSpec::new("http://127.0.0.1:1", "m");
        let configured = json!({"generationConfig": {"topK": 3, "temperature": 1}});
        spec.params = configured.as_object().expect("fields").clone();
        UpstreamSource::new(api, spec).expect("a source").params(options)
    }

    #[test]
    fn an_api_gets_its_own_words_as_they_are() {
        for (api, options) in [(Api::OpenAiChat, chat()), (Api::OpenAiResponses, responses())] {
            assert_eq!(params(api, &options), Ok(Value::Object(options.fields)));
        }
    }

    #[test]
    fn both_apis_of_the_client_mean_the_same() {
        let mut of_chat = Options::of(&chat()).expect("options");
        assert_eq!(
            (of_chat.stop.take(), of_chat.seed.take()),
            (Some(json!(["x"])), Some(json!(7)))
        );
        assert_eq!(of_chat, Options::of(&responses()).expect("options"));
        let mut wanted = responses().fields;
        assert_eq!(params(Api::OpenAiResponses, &chat()), Ok(json!(wanted)));
        wanted = chat().fields;
        for name in ["top_p", "stop", "seed"] {
            wanted.remove(name);
        }
        let max = wanted.remove("max_tokens").expect("a number");
        wanted.insert("max_completion_tokens".to_owned(), max);
        assert_eq!(params(Api::OpenAiChat, &responses()), Ok(json!(wanted)));
    }

    #[test]
    fn others_are_asked_in_their_words() {
        let schema = json!({"type": "object"});
        assert_eq!(
            params(Api::Anthropic, &chat()),
            Ok(json!({
                "tools": [{"name": "f", "description": "d", "input_schema": schema}],
                "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": true},
                "temperature": 0.5, "max_tokens": 9, "stop_sequences": ["x"],
            }))
        );
        let function = json!({"name": "f", "description": "d", "parametersJsonSchema": schema});
        let choice = json!({"mode": "ANY", "allowedFunctionNames": ["f"]});
        assert_eq!(
            params(Api::Gemini, &chat()),
            Ok(json!({
                "tools": [{"functionDeclarations": [function]}],
                "toolConfig": {"functionCallingConfig": choice},
                "generationConfig": {
                    "topK": 3, "temperature": 0.5, "maxOutputTokens": 9, "stopSequences": ["x"],
                    "seed": 7, "responseMimeType": "application/json", "responseJsonSchema": {},
                },
            }))
        );
        assert_eq!(
            params(Api::Ollama, &chat()),
            Ok(json!({
                "tools": chat().fields["tools"],
                "options": {"temperature": 0.5, "num_predict": 9, "stop": ["x"], "seed": 7},
                "format": {},
            }))
        );
    }

    #[test]
    fn nothing_asked_is_nothing_said() {
        let none = ModelOptions { api: ClientApi::OpenAiChat, fields: Map::new() };
        for api in Api::ALL {
            assert_eq!(params(api, &none), Ok(json!({})), "{api:?}");
        }
    }

    #[test]
    fn a_tool_of_somebody_else_is_no_other_models() {
        let mut options = responses();
        options.fields.insert("tools".to_owned(), json!([{"type": "web_search"}]));
        assert!(params(Api::OpenAiResponses, &options).is_ok());
        let why = params(Api::Anthropic, &options).expect_err("refused");
        assert_eq!(why, "a tool of type \"web_search\" cannot be given to this model");
        let choice = json!({"type": "allowed_tools"});
        let fields = Map::from_iter([("tool_choice".to_owned(), choice)]);
        assert!(params(Api::Gemini, &ModelOptions { fields, ..options }).is_err());
    }
}
