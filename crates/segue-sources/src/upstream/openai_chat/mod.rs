//! OpenAI-compatible chat completions, with the dialects of those who are.
//!
//! | said as | becomes |
//! | --- | --- |
//! | `content`, a string or a list of typed parts; `refusal` | text |
//! | `reasoning_content`, `reasoning`, `<think>` at the head of the content | reasoning |
//! | `tool_calls`, pieces by index, by id, or whole | a tool call that the client runs |
//! | `annotations` | sources |
//! | `finish_reason`, `usage`, on any chunk | the end |
//! | `[DONE]`, or the end of the body after a `finish_reason` | the end of the answer |
//! | `error` in a frame, at the top or in a choice | a failure |

mod chunk;
mod messages;

use segue_core::ClientApi;
use serde_json::{Value, json};

use self::{
    chunk::{Choice, Chunk, Content, Delta},
    messages::messages,
};
use super::{
    Dialect, Fields, Reader,
    answer::{Answer, Piece, Prose},
    fault::Fault,
    fields,
    frames::{Frame, Framing},
    history,
    options::{Format, Options, Tool, ToolChoice, some},
    think::Think,
};

/// The dialect.
pub(super) struct OpenAiChat;

impl Dialect for OpenAiChat {
    fn path(&self, _model: &str) -> String {
        "/chat/completions".to_owned()
    }

    fn framing(&self) -> Framing {
        Framing::Sse
    }

    fn body(&self, model: &str, system: Option<&str>, input: &Value) -> Result<Fields, String> {
        let messages = messages(&history::turns(system, input)?)?;
        Ok(fields([
            ("model", model.into()),
            ("messages", messages.into()),
            ("stream", true.into()),
            ("stream_options", json!({"include_usage": true})),
        ]))
    }

    fn own_api(&self) -> Option<ClientApi> {
        Some(ClientApi::OpenAiChat)
    }

    fn options(&self, asked: &Options) -> Fields {
        let format = asked.format.as_ref().map(|format| match format {
            Format::Json => json!({"type": "json_object"}),
            Format::Schema(schema) => json!({"type": "json_schema", "json_schema": schema}),
        });
        some([
            ("tools", asked.tools_as(Tool::of_chat)),
            ("tool_choice", asked.choice.as_ref().map(ToolChoice::of_chat)),
            ("parallel_tool_calls", asked.parallel.clone()),
            ("temperature", asked.temperature.clone()),
            ("top_p", asked.top_p.clone()),
            ("max_completion_tokens", asked.max_tokens.clone()),
            ("reasoning_effort", asked.effort.clone()),
            ("response_format", format),
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
        if frame.data.trim() == "[DONE]" {
            answer.done();
            return Ok(());
        }
        if frame.event == "error" {
            let error = serde_json::from_str(&frame.data);
            return Err(Fault::of_error(&error.unwrap_or_else(|_| json!(frame.data))));
        }
        let chunk: Chunk = frame.json()?;
        if let Some(error) = chunk.error.filter(|error| !error.is_null()) {
            return Err(Fault::of_error(&error));
        }
        answer.usage(chunk.usage.as_ref().and_then(chunk::usage));
        // Of several answers to one question only the first is the run's.
        let first = |choice: &Choice| choice.index.unwrap_or(0) == 0;
        for choice in chunk.choices.unwrap_or_default().into_iter().filter(first) {
            self.choice(choice, answer)?;
        }
        Ok(())
    }

    fn finish(&mut self, answer: &mut Answer) {
        if let Some((prose, text)) = self.think.finish() {
            answer.prose(prose, &text);
        }
    }
}

impl ChatReader {
    fn choice(&mut self, choice: Choice, answer: &mut Answer) -> Result<(), Fault> {
        if let Some(error) = choice.error.filter(|error| !error.is_null()) {
            return Err(Fault::of_error(&error));
        }
        if let Some(delta) = choice.delta.or(choice.message) {
            self.delta(&delta, answer)?;
        }
        match choice.finish_reason {
            Some(reason) if !reason.is_empty() => answer.finish(&reason),
            _ => Ok(()),
        }
    }

    fn delta(&mut self, delta: &Delta, answer: &mut Answer) -> Result<(), Fault> {
        // Some send the same words under both names.
        let reasoning = delta.reasoning_content.as_ref().or(delta.reasoning.as_ref());
        if let Some(Content::Text(text)) = reasoning {
            answer.prose(Prose::Reasoning, text);
        }
        match &delta.content {
            Some(Content::Text(text)) => self.content(text, answer),
            Some(Content::Parts(parts)) => {
                for (prose, text) in parts.iter().flat_map(chunk::prose_of) {
                    answer.prose(prose, &text);
                }
            }
            Some(Content::Other(_)) | None => {}
        }
        if let Some(refusal) = &delta.refusal {
            answer.prose(Prose::Text, refusal);
        }
        for citation in delta.annotations.iter().flatten().filter_map(|a| a.url_citation.as_ref()) {
            answer.source(&citation.url, citation.title.as_deref());
        }
        delta.tool_calls.iter().flatten().try_for_each(|call| {
            let input = call.function.arguments.as_ref().map(chunk::text_of);
            // What stands before a tool call cannot be the beginning of a tag any more.
            self.finish(answer);
            answer.call(Piece {
                index: call.index,
                id: call.id.as_deref(),
                name: call.function.name.as_deref(),
                input: input.as_deref().unwrap_or_default(),
                ..Piece::default()
            })
        })
    }

    fn content(&mut self, text: &str, answer: &mut Answer) {
        self.think.feed(text, |prose, text| answer.prose(prose, text));
    }
}

#[cfg(test)]
mod tests;
