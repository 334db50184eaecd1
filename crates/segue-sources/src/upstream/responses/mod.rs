//! Responses, the API of `OpenAI`.
//!
//! | said as | becomes |
//! | --- | --- |
//! | `response.output_text.delta`, `response.refusal.delta` | text |
//! | `response.reasoning_summary_text.delta`, `response.reasoning_text.delta`; an item's `encrypted_content` | reasoning with its signature |
//! | an item `function_call`, `response.function_call_arguments.*` | a tool call that the client runs |
//! | `response.output_text.annotation.added` | a source |
//! | `response.completed`, `response.incomplete` | the usage and the end of the answer |
//! | `error`, `response.failed`, `response.cancelled` | a failure |
//!
//! Calls of the provider's own tools, and events that are not invented yet, are passed over.

mod input;

use std::collections::HashSet;

use segue_core::ClientApi;
use serde_json::{Value, json};

use super::{
    Dialect, Fields, Reader,
    answer::{Answer, Piece, Prose},
    fault::Fault,
    fields,
    frames::{Frame, Framing},
    history,
    options::{Format, Options, Tool, ToolChoice, some},
    usage_of,
};

/// The dialect.
pub(super) struct Responses;

impl Dialect for Responses {
    fn path(&self, _model: &str) -> String {
        "/responses".to_owned()
    }

    fn framing(&self) -> Framing {
        Framing::Sse
    }

    fn body(&self, model: &str, system: Option<&str>, input: &Value) -> Result<Fields, String> {
        let mut turns = history::turns(system, input)?;
        let system = history::take_system(&mut turns);
        let mut body = fields([
            ("model", model.into()),
            ("input", input::items(&turns)?.into()),
            ("stream", true.into()),
            // What is said is kept here; there it need not be.
            ("store", false.into()),
        ]);
        body.extend(system.map(|text| ("instructions".to_owned(), text.into())));
        Ok(body)
    }

    fn own_api(&self) -> Option<ClientApi> {
        Some(ClientApi::OpenAiResponses)
    }

    fn options(&self, asked: &Options) -> Fields {
        let format = asked.format.as_ref().map(|format| match format {
            Format::Json => json!({"format": {"type": "json_object"}}),
            Format::Schema(schema) => {
                let mut format = json!({"type": "json_schema"});
                for (name, value) in schema {
                    format[name.as_str()] = value.clone();
                }
                json!({"format": format})
            }
        });
        let choice = |choice: &ToolChoice| match choice {
            ToolChoice::Function(name) => json!({"type": "function", "name": name}),
            other => other.of_chat(),
        };
        some([
            ("tools", asked.tools_as(Tool::of_responses)),
            ("tool_choice", asked.choice.as_ref().map(choice)),
            ("parallel_tool_calls", asked.parallel.clone()),
            ("temperature", asked.temperature.clone()),
            ("top_p", asked.top_p.clone()),
            ("max_output_tokens", asked.max_tokens.clone()),
            ("reasoning", asked.effort.as_ref().map(|effort| json!({"effort": effort}))),
            ("text", format),
        ])
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::<ResponseReader>::default()
    }
}

/// Reads one answer.
#[derive(Default)]
struct ResponseReader {
    /// Items whose text or arguments came in pieces, which their whole would repeat.
    streamed: HashSet<u64>,
}

impl Reader for ResponseReader {
    fn frame(&mut self, frame: &Frame, answer: &mut Answer) -> Result<(), Fault> {
        if frame.data.trim() == "[DONE]" {
            return Ok(());
        }
        let said: Value = frame.json()?;
        match said["type"].as_str().unwrap_or(&frame.event) {
            "response.output_item.added" => begin(&said, answer)?,
            "response.output_item.done" => {
                self.item(said["output_index"].as_u64(), &said["item"], answer)?;
            }
            "response.output_text.annotation.added" => cite(&said["annotation"], answer),
            "response.content_part.added" | "response.reasoning_summary_part.added" => {
                answer.close_prose();
            }
            "response.completed" | "response.incomplete" => end(&said["response"], answer)?,
            "response.failed" | "response.cancelled" => {
                return Err(Fault::of_error(&said["response"]["error"]));
            }
            "error" => return Err(error(&said)),
            _ if said["object"] == "response" => self.whole(&said, answer)?,
            kind => self.delta(kind, &said, answer)?,
        }
        Ok(())
    }

    fn finish(&mut self, _answer: &mut Answer) {}
}

impl ResponseReader {
    fn delta(&mut self, kind: &str, said: &Value, answer: &mut Answer) -> Result<(), Fault> {
        let text = said["delta"].as_str().unwrap_or_default();
        let index = said["output_index"].as_u64();
        match kind {
            "response.output_text.delta" | "response.refusal.delta" => {
                answer.prose(Prose::Text, text);
            }
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                answer.prose(Prose::Reasoning, text);
            }
            "response.function_call_arguments.delta" => {
                answer.call(Piece { index, input: text, ..Piece::default() })?;
            }
            _ => return Ok(()),
        }
        self.streamed.extend(index);
        Ok(())
    }

    /// An item that is whole: says what of it was not said in pieces.
    fn item(&mut self, index: Option<u64>, item: &Value, answer: &mut Answer) -> Result<(), Fault> {
        let was_streamed = index.is_some_and(|index| self.streamed.contains(&index));
        match item["type"].as_str().unwrap_or_default() {
            "function_call" => {
                let whole = item["arguments"].as_str().unwrap_or_default();
                let input = if was_streamed { "" } else { whole };
                answer.call(Piece { input, ..piece(index, item) })?;
                if let Some(index) = index {
                    answer.end_call(index);
                }
            }
            "message" if !was_streamed => content(&item["content"], Prose::Text, answer),
            "reasoning" => {
                if !was_streamed {
                    content(&item["summary"], Prose::Reasoning, answer);
                    content(&item["content"], Prose::Reasoning, answer);
                }
                if item["encrypted_content"].is_string() {
                    let of = |name: &str| item[name].clone();
                    answer.sign(
                        json!({"id": of("id"), "encrypted_content": of("encrypted_content")}),
                    );
                }
            }
            _ => {}
        }
        answer.close_prose();
        Ok(())
    }

    /// An answer that was not streamed.
    fn whole(&mut self, response: &Value, answer: &mut Answer) -> Result<(), Fault> {
        if response["status"] == "failed" || response["status"] == "cancelled" {
            return Err(Fault::of_error(&response["error"]));
        }
        for (index, item) in (0..).zip(response["output"].as_array().into_iter().flatten()) {
            self.item(Some(index), item, answer)?;
        }
        if matches!(response["status"].as_str(), Some("completed" | "incomplete")) {
            end(response, answer)?;
        }
        Ok(())
    }
}

fn begin(said: &Value, answer: &mut Answer) -> Result<(), Fault> {
    answer.close_prose();
    let item = &said["item"];
    if item["type"] != "function_call" {
        return Ok(());
    }
    answer.call(piece(said["output_index"].as_u64(), item))
}

fn piece(index: Option<u64>, item: &Value) -> Piece<'_> {
    let (id, name) = (item["call_id"].as_str(), item["name"].as_str());
    Piece { index, id, name, ..Piece::default() }
}

fn content(parts: &Value, prose: Prose, answer: &mut Answer) {
    for part in parts.as_array().into_iter().flatten() {
        let text = part["text"].as_str().or_else(|| part["refusal"].as_str());
        answer.prose(prose, text.unwrap_or_default());
        for annotation in part["annotations"].as_array().into_iter().flatten() {
            cite(annotation, answer);
        }
    }
}

fn cite(annotation: &Value, answer: &mut Answer) {
    if let Some(url) = annotation["url"].as_str() {
        answer.source(url, annotation["title"].as_str());
    }
}

/// Its fields stand at the top or in `error`.
fn error(said: &Value) -> Fault {
    Fault::of_error(if said["error"].is_null() { said } else { &said["error"] })
}

fn end(response: &Value, answer: &mut Answer) -> Result<(), Fault> {
    let usage = &response["usage"];
    let usage = usage_of([
        ("input", &usage["input_tokens"]),
        ("output", &usage["output_tokens"]),
        ("reasoning", &usage["output_tokens_details"]["reasoning_tokens"]),
        ("cached", &usage["input_tokens_details"]["cached_tokens"]),
    ]);
    answer.usage(usage);
    let reason = match response["incomplete_details"]["reason"].as_str() {
        Some("max_output_tokens") => "length",
        Some(other) => other,
        None if answer.awaits_client() => "tool_calls",
        None => "stop",
    };
    answer.finish(reason)?;
    answer.done();
    Ok(())
}

#[cfg(test)]
mod tests;
