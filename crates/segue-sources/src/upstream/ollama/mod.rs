//! Ollama's chat.
//!
//! | said as | becomes |
//! | --- | --- |
//! | `message.content` | text; `<think>` at its head reasoning |
//! | `message.thinking` | reasoning |
//! | `message.tool_calls`, whole | tool calls that the client runs |
//! | `done`, `done_reason`, `prompt_eval_count`, `eval_count` | the end of the answer and the usage |
//! | `error` | a failure |

mod messages;

use serde_json::Value;

use super::{
    Dialect, Fields, Reader,
    answer::{Answer, Executor, Prose},
    fault::Fault,
    fields,
    frames::{Frame, Framing},
    history,
    options::{Format, Options, Tool, ToolChoice, some},
    think::Think,
    usage_of,
};

/// The dialect.
pub(super) struct Ollama;

impl Dialect for Ollama {
    fn path(&self, _model: &str) -> String {
        "/chat".to_owned()
    }

    fn framing(&self) -> Framing {
        Framing::Ndjson
    }

    fn body(&self, model: &str, system: Option<&str>, input: &Value) -> Result<Fields, String> {
        let messages = messages::messages(&history::turns(system, input)?)?;
        Ok(fields([
            ("model", model.into()),
            ("messages", messages.into()),
            ("stream", true.into()),
        ]))
    }

    fn options(&self, asked: &Options) -> Fields {
        let format = asked.format.as_ref().map(|format| match format {
            Format::Json => "json".into(),
            Format::Schema(schema) => schema.get("schema").cloned().unwrap_or_default(),
        });
        let options = some([
            ("temperature", asked.temperature.clone()),
            ("top_p", asked.top_p.clone()),
            ("num_predict", asked.max_tokens.clone()),
            ("stop", asked.stop.clone()),
            ("seed", asked.seed.clone()),
        ]);
        some([
            // It calls a tool if it wants to, unless it knows none.
            (
                "tools",
                asked.tools_as(Tool::of_chat).filter(|_| asked.choice != Some(ToolChoice::None)),
            ),
            ("options", (!options.is_empty()).then_some(Value::Object(options))),
            ("format", format),
        ])
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::<ChatReader>::default()
    }
}

/// Reads one answer.
#[derive(Default)]
struct ChatReader {
    think: Think,
}

impl Reader for ChatReader {
    fn frame(&mut self, frame: &Frame, answer: &mut Answer) -> Result<(), Fault> {
        let said: Value = frame.json()?;
        if !said["error"].is_null() {
            return Err(Fault::of_error(&said));
        }
        let message = &said["message"];
        answer.prose(Prose::Reasoning, message["thinking"].as_str().unwrap_or_default());
        let content = message["content"].as_str().unwrap_or_default();
        self.think.feed(content, |prose, text| answer.prose(prose, text));
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            // What stands before a tool call cannot be the beginning of a tag any more.
            self.finish(answer);
            let function = &call["function"];
            let name = function["name"].as_str().unwrap_or_default();
            let input = &function["arguments"];
            answer.whole_call(Executor::Client, call["id"].as_str(), name, input)?;
        }
        if said["done"] == true { end(&said, answer) } else { Ok(()) }
    }

    fn finish(&mut self, answer: &mut Answer) {
        if let Some((prose, text)) = self.think.finish() {
            answer.prose(prose, &text);
        }
    }
}

fn end(said: &Value, answer: &mut Answer) -> Result<(), Fault> {
    let usage = usage_of([("input", &said["prompt_eval_count"]), ("output", &said["eval_count"])]);
    answer.usage(usage);
    match said["done_reason"].as_str() {
        Some("stop") | None if answer.awaits_client() => answer.finish("tool_calls")?,
        reason => answer.finish(reason.unwrap_or("stop"))?,
    }
    answer.done();
    Ok(())
}

#[cfg(test)]
mod tests;
