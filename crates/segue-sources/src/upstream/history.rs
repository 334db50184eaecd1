//! A run's input as the turns of a conversation, before any API's words.
//!
//! The input is a string, a list of parts (one message of the user) or a list of messages, each
//! with a `role` and its `content` or `parts`. Parts are Segue's own; a `content` may also have
//! parts in the API's own words, and a message with other fields is one in the API's own words.
//!
//! What an answer of before called and what that gave stand apart, in their order: a turn of the
//! model is followed by one of results, then the model speaks on.

use std::borrow::Cow;

use segue_core::RunInput;
use serde_json::{Value, json};

/// One turn.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Turn<'a> {
    System(Vec<Item<'a>>),
    User(Vec<Item<'a>>),
    /// Of the model: everything but results.
    Assistant(Vec<Item<'a>>),
    /// What tools gave: results only.
    Results(Vec<Item<'a>>),
    /// A message in the API's own words.
    Own(&'a Value),
}

/// One thing of a turn.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Item<'a> {
    Text(&'a str),
    Reasoning {
        text: &'a str,
        /// What proves it to the API that made it.
        signature: Option<&'a Value>,
    },
    Call(Call<'a>),
    Result(Outcome<'a>),
    File {
        media_type: &'a str,
        url: &'a str,
    },
    /// A part in the API's own words.
    Own(&'a Value),
}

/// A tool call of before.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call<'a> {
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    input: Option<&'a Value>,
    raw: Option<&'a str>,
}

/// What a tool call gave.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outcome<'a> {
    pub(super) id: &'a str,
    /// The tool; empty where its call is not in the input.
    pub(super) name: &'a str,
    pub(super) said: &'a Value,
    pub(super) is_error: bool,
}

impl Call<'_> {
    /// Its input as JSON text, or as the model wrote it where that was no JSON.
    pub(super) fn text(&self) -> String {
        match (self.input, self.raw) {
            (Some(input), _) => input.to_string(),
            (None, Some(raw)) => raw.to_owned(),
            (None, None) => "{}".to_owned(),
        }
    }

    /// Its input for APIs that take only an object: anything else is wrapped in one.
    pub(super) fn object(&self) -> Value {
        match (self.input, self.raw) {
            (Some(Value::Object(fields)), _) => Value::Object(fields.clone()),
            (Some(other), _) => serde_json::json!({"input": other}),
            (None, Some(raw)) => serde_json::json!({"input": raw}),
            (None, None) => serde_json::json!({}),
        }
    }
}

impl Outcome<'_> {
    /// A string as it is, anything else as JSON.
    pub(super) fn text(&self) -> String {
        self.said.as_str().map_or_else(|| self.said.to_string(), str::to_owned)
    }
}

/// What a run asks: its input, after what was said in its session before.
pub(super) fn asked(run: &RunInput) -> Cow<'_, Value> {
    if run.history.is_empty() {
        return Cow::Borrowed(&run.input);
    }
    let now = match &run.input {
        Value::Array(items) if items.iter().any(|item| item.get("role").is_some()) => items.clone(),
        Value::Array(items) if items.is_empty() => Vec::new(),
        Value::Array(_) => vec![json!({"role": "user", "parts": run.input})],
        Value::Null => Vec::new(),
        other => vec![json!({"role": "user", "content": other})],
    };
    Cow::Owned(run.history.iter().cloned().chain(now).collect())
}

/// The same, but of the files in what was said before only that they were there. `None` if there
/// are none.
pub(super) fn asked_without_files(run: &RunInput) -> Option<Value> {
    let is_file = |part: &Value| part["type"] == "file";
    let mut run = run.clone();
    let parts = run.history.iter_mut().filter_map(|turn| turn["parts"].as_array_mut()).flatten();
    let mut files = parts.filter(|part| is_file(part)).peekable();
    files.peek()?;
    for part in files {
        let media_type = part["media_type"].as_str().unwrap_or("a");
        *part = json!({"type": "text", "text": format!("[{media_type} file, left out]")});
    }
    Some(asked(&run).into_owned())
}

/// The turns of a run's input, after the configured system prompt.
///
/// Fails with a message for a person.
pub(super) fn turns<'a>(
    system: Option<&'a str>,
    input: &'a Value,
) -> Result<Vec<Turn<'a>>, String> {
    let system = system.map(|text| Turn::System(vec![Item::Text(text)]));
    let mut turns: Vec<Turn<'a>> = system.into_iter().collect();
    match input {
        Value::Null => return Err("the input is empty, there is nothing to ask".to_owned()),
        Value::String(text) => turns.push(Turn::User(vec![Item::Text(text)])),
        Value::Array(items) if items.iter().any(|item| item.get("role").is_some()) => {
            items.iter().try_for_each(|item| message(item, &mut turns))?;
        }
        Value::Array(parts) => turns.push(Turn::User(items(parts, false)?)),
        _ => return Err("the input must be a string, parts or messages".to_owned()),
    }
    name_results(&mut turns);
    Ok(turns)
}

/// Takes the system's turns out and gives their text, for APIs that want it apart.
pub(super) fn take_system(turns: &mut Vec<Turn<'_>>) -> Option<String> {
    let mut texts = Vec::new();
    turns.retain(|turn| match turn {
        Turn::System(items) => {
            texts.push(text(items));
            false
        }
        _ => true,
    });
    (!texts.is_empty()).then(|| texts.join("\n\n"))
}

/// The text of a turn, joined.
pub(super) fn text(items: &[Item<'_>]) -> String {
    let text = |item: &Item<'_>| match item {
        Item::Text(text) => Some((*text).to_owned()),
        _ => None,
    };
    items.iter().filter_map(text).collect()
}

/// The media type and the base64 of a `data:` URL.
pub(super) fn inline<'a>(url: &'a str, media_type: &'a str) -> Option<(&'a str, &'a str)> {
    let (head, data) = url.strip_prefix("data:")?.split_once(',')?;
    let declared = head.strip_suffix(";base64")?;
    Some((if declared.is_empty() { media_type } else { declared }, data))
}

/// That a thing cannot be said to an API.
pub(super) fn unsayable(what: &str) -> String {
    format!("{what} cannot be sent to this model")
}

fn message<'a>(message: &'a Value, turns: &mut Vec<Turn<'a>>) -> Result<(), String> {
    let role = message.get("role").and_then(Value::as_str);
    let role = role.ok_or("a message of the input has no role")?;
    let is_plain = || {
        let fields = message.as_object().into_iter().flatten();
        fields.filter(|(name, _)| !matches!(name.as_str(), "id" | "role" | "content")).count() == 0
    };
    let items = match (&message["parts"], &message["content"]) {
        (Value::Array(parts), _) => items(parts, false)?,
        (_, Value::String(text)) if is_plain() => vec![Item::Text(text)],
        (_, Value::Array(parts)) if is_plain() => items(parts, true)?,
        _ => {
            turns.push(Turn::Own(message));
            return Ok(());
        }
    };
    match role {
        "system" | "developer" => turns.push(Turn::System(items)),
        "user" => turns.push(Turn::User(items)),
        "assistant" | "tool" => answer(items, turns),
        _ => return Err(format!("a message of the input has the unknown role {role:?}")),
    }
    Ok(())
}

/// Splits an answer of before where tools gave something.
fn answer<'a>(items: Vec<Item<'a>>, turns: &mut Vec<Turn<'a>>) {
    let begin = turns.len();
    for item in items {
        let is_result = matches!(item, Item::Result(_));
        match turns[begin..].last_mut() {
            Some(Turn::Results(items)) if is_result => items.push(item),
            Some(Turn::Assistant(items)) if !is_result => items.push(item),
            _ if is_result => turns.push(Turn::Results(vec![item])),
            _ => turns.push(Turn::Assistant(vec![item])),
        }
    }
}

/// The parts that a model is told. `lets_own` keeps those that are not ours.
fn items(parts: &[Value], lets_own: bool) -> Result<Vec<Item<'_>>, String> {
    parts.iter().filter_map(|part| item(part, lets_own).transpose()).collect()
}

fn item(part: &Value, lets_own: bool) -> Result<Option<Item<'_>>, String> {
    let field = |name: &str| part[name].as_str();
    let item = match (field("type").unwrap_or_default(), field("text")) {
        ("text", Some(text)) => Item::Text(text),
        ("reasoning", text) => {
            Item::Reasoning { text: text.unwrap_or_default(), signature: part.get("signature") }
        }
        ("tool_call", _) => Item::Call(Call {
            id: field("call_id").ok_or("a tool call of the input has no call_id")?,
            name: field("name").ok_or("a tool call of the input has no name")?,
            input: part.get("input"),
            raw: field("raw"),
        }),
        ("tool_result", _) => {
            let error = part.get("error").filter(|error| !error.is_null());
            Item::Result(Outcome {
                id: field("call_id").ok_or("a tool result of the input has no call_id")?,
                name: "",
                said: error.or_else(|| part.get("output")).unwrap_or(&Value::Null),
                is_error: error.is_some(),
            })
        }
        ("file", _) if field("url").is_some() => Item::File {
            media_type: field("media_type").unwrap_or_default(),
            url: field("url").unwrap_or_default(),
        },
        // What is shown to people and not said by anyone.
        ("source" | "warning" | "event" | "finish" | "data", _) if !lets_own => return Ok(None),
        _ if lets_own => Item::Own(part),
        (other, _) => return Err(unsayable(&format!("a part of type {other:?}"))),
    };
    Ok(Some(item))
}

/// Gives each result the name of its call's tool, which some APIs want.
fn name_results(turns: &mut [Turn<'_>]) {
    let mut names = std::collections::HashMap::new();
    for turn in turns {
        match turn {
            Turn::Assistant(items) => names.extend(items.iter().filter_map(|item| match item {
                Item::Call(call) => Some((call.id, call.name)),
                _ => None,
            })),
            Turn::Results(items) => {
                for item in items {
                    if let Item::Result(outcome) = item {
                        outcome.name = names.get(outcome.id).copied().unwrap_or_default();
                    }
                }
            }
            Turn::System(_) | Turn::User(_) | Turn::Own(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_input_is_text_parts_or_messages() {
        let user = |items| vec![Turn::User(items)];
        assert_eq!(turns(None, &json!("hi")), Ok(user(vec![Item::Text("hi")])));
        let parts = json!([
            {"type": "text", "text": "a"},
            {"type": "file", "media_type": "image/png", "url": "data:,x"},
        ]);
        let file = Item::File { media_type: "image/png", url: "data:,x" };
        assert_eq!(turns(None, &parts), Ok(user(vec![Item::Text("a"), file])));
        let messages = json!([{"role": "user", "content": "hi"}]);
        let system = Turn::System(vec![Item::Text("be brief")]);
        let wanted = vec![system, Turn::User(vec![Item::Text("hi")])];
        assert_eq!(turns(Some("be brief"), &messages), Ok(wanted));
    }

    #[test]
    fn what_is_asked_comes_after_what_was_said_before() {
        let said = |role: &str, text: &str| json!({"role": role, "parts": [{"type": "text", "text": text}]});
        let file = json!({"role": "user", "parts": [{"type": "file", "media_type": "audio/x", "url": "data:,x"}]});
        let run = |input: Value, history: Vec<Value>| RunInput {
            run: segue_core::RunId::parse("r").expect("valid"),
            session: segue_core::SessionId::parse("s").expect("valid"),
            agent: segue_core::AgentName::parse("a").expect("valid"),
            input,
            history,
            params: Value::Null,
        };
        let before = || vec![said("user", "a"), said("assistant", "b")];
        assert_eq!(*asked(&run(json!("hi"), Vec::new())), json!("hi"));
        for (input, now) in [
            (json!("hi"), vec![json!({"role": "user", "content": "hi"})]),
            (said("user", "x")["parts"].clone(), vec![said("user", "x")]),
            (
                json!([said("tool", "y"), said("user", "z")]),
                vec![said("tool", "y"), said("user", "z")],
            ),
            (json!([]), vec![]),
            (json!(null), vec![]),
        ] {
            let wanted: Vec<Value> = before().into_iter().chain(now).collect();
            assert_eq!(*asked(&run(input, before())), json!(wanted));
        }
        assert_eq!(asked_without_files(&run(json!("hi"), before())), None);
        let asked = asked_without_files(&run(json!([file.clone()]), vec![file.clone()]));
        let asked = asked.expect("files");
        assert_eq!(asked[0]["parts"][0]["text"], "[audio/x file, left out]");
        assert_eq!(asked[1], file);
    }

    #[test]
    fn an_answer_of_before_is_split_where_its_tools_answered() {
        let input = json!([{"id": "m", "role": "assistant", "parts": [
            {"type": "text", "text": "look"},
            {"type": "tool_call", "call_id": "c", "name": "find", "input": {"q": 1}},
            {"type": "tool_result", "call_id": "c", "output": {"n": 2}},
            {"type": "text", "text": "two"},
            {"type": "finish"},
        ]}]);
        let call = Call { id: "c", name: "find", input: Some(&json!({"q": 1})), raw: None };
        let said = &json!({"n": 2});
        let result = Outcome { id: "c", name: "find", said, is_error: false };
        assert_eq!(
            turns(None, &input),
            Ok(vec![
                Turn::Assistant(vec![Item::Text("look"), Item::Call(call)]),
                Turn::Results(vec![Item::Result(result)]),
                Turn::Assistant(vec![Item::Text("two")]),
            ])
        );
    }

    #[test]
    fn the_apis_own_words_are_kept() {
        let input = json!([
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "4"},
        ]);
        let turns = turns(None, &input).expect("turns");
        assert_eq!(turns[0], Turn::User(vec![Item::Own(&input[0]["content"][0])]));
        assert_eq!(turns[1], Turn::Own(&input[1]));
    }

    #[test]
    fn what_cannot_be_said_is_refused() {
        for input in [
            json!(null),
            json!(1),
            json!([{"role": 1}]),
            json!([{"role": "cook", "content": "x"}]),
            json!([{"type": "tool_call"}]),
            json!([{"type": "tool_result"}]),
            json!([{"role": "user", "parts": [{"type": "map"}]}]),
        ] {
            assert!(turns(None, &input).is_err(), "{input}");
        }
    }

    #[test]
    fn a_data_url_has_its_type_and_its_bytes() {
        assert_eq!(inline("data:image/png;base64,AA==", "x/y"), Some(("image/png", "AA==")));
        assert_eq!(inline("data:;base64,AA==", "x/y"), Some(("x/y", "AA==")));
        assert_eq!((inline("http://a/b", "x/y"), inline("data:,x", "x/y")), (None, None));
    }
}
