//! Anthropic's Messages.
//!
//! | said as | becomes |
//! | --- | --- |
//! | a `text` block, its `text_delta`s and `citations_delta`s | text, sources |
//! | a `thinking` block, `thinking_delta`, `signature_delta`; `redacted_thinking` | reasoning with its signature |
//! | a `tool_use` block, `input_json_delta` | a tool call that the client runs |
//! | `server_tool_use`, `mcp_tool_use` and the result blocks of such | a tool call of the provider, its result, sources |
//! | `message_start`, `message_delta` | the usage, the finish reason |
//! | `message_stop` | the end of the answer |
//! | `error` | a failure |

mod messages;

use serde_json::{Value, json};

use super::{
    Dialect, Fields, Reader,
    answer::{Answer, Executor, Piece, Prose},
    fault::Fault,
    fields,
    frames::{Frame, Framing},
    history,
    options::{Options, Tool, ToolChoice, some},
    usage_of,
};

/// What an answer may cost where nobody says: the API wants a number.
const MAX_TOKENS: u32 = 8_192;

/// The dialect.
pub(super) struct Anthropic;

impl Dialect for Anthropic {
    fn path(&self, _model: &str) -> String {
        "/messages".to_owned()
    }

    fn key_header(&self) -> (&'static str, &'static str) {
        ("x-api-key", "")
    }

    fn headers(&self) -> &'static [(&'static str, &'static str)] {
        &[("anthropic-version", "2023-06-01")]
    }

    fn framing(&self) -> Framing {
        Framing::Sse
    }

    fn body(&self, model: &str, system: Option<&str>, input: &Value) -> Result<Fields, String> {
        let mut turns = history::turns(system, input)?;
        let system = history::take_system(&mut turns);
        let mut body = fields([
            ("model", model.into()),
            ("messages", messages::messages(&turns)?.into()),
            ("max_tokens", MAX_TOKENS.into()),
            ("stream", true.into()),
        ]);
        body.extend(system.map(|text| ("system".to_owned(), text.into())));
        Ok(body)
    }

    fn options(&self, asked: &Options) -> Fields {
        let is_single = !asked.tools.is_empty() && asked.parallel == Some(Value::Bool(false));
        let default = is_single.then_some(&ToolChoice::Auto);
        let choice = |choice: &ToolChoice| {
            let mut choice = match choice {
                ToolChoice::Auto => json!({"type": "auto"}),
                ToolChoice::None => return json!({"type": "none"}),
                ToolChoice::Required => json!({"type": "any"}),
                ToolChoice::Function(name) => json!({"type": "tool", "name": name}),
            };
            if is_single {
                choice["disable_parallel_tool_use"] = true.into();
            }
            choice
        };
        let tool = |tool: &Tool| {
            let schema = tool.schema();
            json!({"name": tool.name, "description": tool.description, "input_schema": schema})
        };
        some([
            ("tools", asked.tools_as(tool)),
            ("tool_choice", asked.choice.as_ref().or(default).map(choice)),
            ("temperature", asked.temperature.clone()),
            ("top_p", asked.top_p.clone()),
            ("max_tokens", asked.max_tokens.clone()),
            ("stop_sequences", asked.stop.clone()),
        ])
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::<MessageReader>::default()
    }
}

/// Reads one answer.
#[derive(Default)]
struct MessageReader {
    /// The latest of each number.
    usage: Fields,
}

impl Reader for MessageReader {
    fn frame(&mut self, frame: &Frame, answer: &mut Answer) -> Result<(), Fault> {
        let said: Value = frame.json()?;
        let index = said["index"].as_u64();
        match said["type"].as_str().unwrap_or(&frame.event) {
            "message_start" => self.usage(&said["message"]["usage"], answer),
            "content_block_start" => block(index, &said["content_block"], answer)?,
            "content_block_delta" => delta(index, &said["delta"], answer)?,
            "content_block_stop" => end_block(index, answer),
            "message_delta" => {
                self.usage(&said["usage"], answer);
                finish(&said["delta"]["stop_reason"], answer)?;
            }
            "message_stop" => answer.done(),
            "message" => self.whole(&said, answer)?,
            "error" => return Err(Fault::of_error(&said["error"])),
            // `ping`, and what is not invented yet.
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, _answer: &mut Answer) {}
}

impl MessageReader {
    fn usage(&mut self, usage: &Value, answer: &mut Answer) {
        let said = usage_of([
            ("input", &usage["input_tokens"]),
            ("output", &usage["output_tokens"]),
            ("cached", &usage["cache_read_input_tokens"]),
        ]);
        if let Some(Value::Object(said)) = said {
            self.usage.extend(said);
            answer.usage(Some(Value::Object(self.usage.clone())));
        }
    }

    /// An answer that was not streamed.
    fn whole(&mut self, message: &Value, answer: &mut Answer) -> Result<(), Fault> {
        for (index, content) in (0..).zip(message["content"].as_array().into_iter().flatten()) {
            block(Some(index), content, answer)?;
            end_block(Some(index), answer);
        }
        self.usage(&message["usage"], answer);
        finish(&message["stop_reason"], answer)?;
        answer.done();
        Ok(())
    }
}

fn finish(reason: &Value, answer: &mut Answer) -> Result<(), Fault> {
    let reason = match reason.as_str() {
        None => return Ok(()),
        Some("end_turn" | "stop_sequence") => "stop",
        Some("max_tokens" | "model_context_window_exceeded") => "length",
        Some("tool_use") => "tool_calls",
        Some("refusal") => "content_filter",
        Some(other) => other,
    };
    answer.finish(reason)
}

fn end_block(index: Option<u64>, answer: &mut Answer) {
    answer.close_prose();
    if let Some(index) = index {
        answer.end_call(index);
    }
}

fn block(index: Option<u64>, block: &Value, answer: &mut Answer) -> Result<(), Fault> {
    let text = |name: &str| block[name].as_str().unwrap_or_default();
    match text("type") {
        "text" => {
            answer.prose(Prose::Text, text("text"));
            cite(&block["citations"], answer);
        }
        "thinking" => {
            answer.prose(Prose::Reasoning, text("thinking"));
            sign(&block["signature"], answer);
        }
        "redacted_thinking" => answer.sign(json!({"redacted": block["data"]})),
        "tool_use" => call(Executor::Client, index, block, answer)?,
        kind if kind.ends_with("_tool_use") => call(Executor::Provider, index, block, answer)?,
        kind if kind.ends_with("_tool_result") => result(block, answer),
        _ => {}
    }
    Ok(())
}

fn call(
    executor: Executor,
    index: Option<u64>,
    block: &Value,
    answer: &mut Answer,
) -> Result<(), Fault> {
    // Streamed input begins as an empty object.
    let input = &block["input"];
    let has_input = input.as_object().is_some_and(|fields| !fields.is_empty());
    let input = if has_input { input.to_string() } else { String::new() };
    let (id, name) = (block["id"].as_str(), block["name"].as_str());
    answer.call(Piece { index, id, name, input: &input, executor })
}

/// What a tool of the provider gave, and the pages in it.
fn result(block: &Value, answer: &mut Answer) {
    let content = &block["content"];
    let is_error = block["is_error"] == true
        || content["type"].as_str().is_some_and(|kind| kind.ends_with("_error"));
    answer.result(block["tool_use_id"].as_str().unwrap_or_default(), content, is_error);
    cite(content, answer);
}

fn cite(pages: &Value, answer: &mut Answer) {
    for page in pages.as_array().into_iter().flatten() {
        if let Some(url) = page["url"].as_str() {
            answer.source(url, page["title"].as_str());
        }
    }
}

fn sign(signature: &Value, answer: &mut Answer) {
    if signature.as_str().is_some_and(|signature| !signature.is_empty()) {
        answer.sign(signature.clone());
    }
}

fn delta(index: Option<u64>, delta: &Value, answer: &mut Answer) -> Result<(), Fault> {
    let text = |name: &str| delta[name].as_str().unwrap_or_default();
    match text("type") {
        "text_delta" => answer.prose(Prose::Text, text("text")),
        "thinking_delta" => answer.prose(Prose::Reasoning, text("thinking")),
        "signature_delta" => sign(&delta["signature"], answer),
        "input_json_delta" => {
            let input = text("partial_json");
            answer.call(Piece { index, input, ..Piece::default() })?;
        }
        "citations_delta" => {
            if let Some(url) = delta["citation"]["url"].as_str() {
                answer.source(url, delta["citation"]["title"].as_str());
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests;
