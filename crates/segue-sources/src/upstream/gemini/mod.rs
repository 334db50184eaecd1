//! Google's `streamGenerateContent`.
//!
//! | said as | becomes |
//! | --- | --- |
//! | a part with `text` | text, with `thought: true` reasoning |
//! | `functionCall` | a tool call that the client runs |
//! | `executableCode`, `codeExecutionResult` | a tool call of the provider and its result |
//! | `inlineData` | a file |
//! | `thoughtSignature` of a part | reasoning with this signature, before it |
//! | `groundingMetadata` | sources |
//! | `usageMetadata` | the usage |
//! | `finishReason` | the end of the answer |
//! | `error`, `promptFeedback.blockReason` | a failure |

mod contents;

use serde_json::{Value, json};

use super::{
    Dialect, Fields, Reader,
    answer::{Answer, Executor, Prose},
    fault::Fault,
    fields,
    frames::{Frame, Framing},
    history,
    options::{Format, Options, Tool, ToolChoice, some},
    usage_of,
};

/// The dialect.
pub(super) struct Gemini;

impl Dialect for Gemini {
    fn path(&self, model: &str) -> String {
        format!("/models/{model}:streamGenerateContent?alt=sse")
    }

    fn key_header(&self) -> (&'static str, &'static str) {
        ("x-goog-api-key", "")
    }

    fn framing(&self) -> Framing {
        Framing::Sse
    }

    fn body(&self, _model: &str, system: Option<&str>, input: &Value) -> Result<Fields, String> {
        let mut turns = history::turns(system, input)?;
        let system = history::take_system(&mut turns);
        let mut body = fields([("contents", contents::contents(&turns).into())]);
        body.extend(
            system.map(|text| ("systemInstruction".to_owned(), json!({"parts": [{"text": text}]}))),
        );
        Ok(body)
    }

    fn options(&self, asked: &Options) -> Fields {
        let tool = |tool: &Tool| {
            let (name, description) = (&tool.name, &tool.description);
            json!({"name": name, "description": description, "parametersJsonSchema": tool.schema()})
        };
        let choice = |choice: &ToolChoice| match choice {
            ToolChoice::Auto => json!({"mode": "AUTO"}),
            ToolChoice::None => json!({"mode": "NONE"}),
            ToolChoice::Required => json!({"mode": "ANY"}),
            ToolChoice::Function(name) => json!({"mode": "ANY", "allowedFunctionNames": [name]}),
        };
        let schema = match &asked.format {
            Some(Format::Schema(schema)) => schema.get("schema").cloned(),
            Some(Format::Json) | None => None,
        };
        let config = some([
            ("temperature", asked.temperature.clone()),
            ("topP", asked.top_p.clone()),
            ("maxOutputTokens", asked.max_tokens.clone()),
            ("stopSequences", asked.stop.clone()),
            ("seed", asked.seed.clone()),
            ("responseMimeType", asked.format.as_ref().map(|_| "application/json".into())),
            ("responseJsonSchema", schema),
        ]);
        let tools = asked.tools_as(tool).map(|tools| json!([{"functionDeclarations": tools}]));
        let choice = asked.choice.as_ref().map(choice);
        some([
            ("tools", tools),
            ("toolConfig", choice.map(|choice| json!({"functionCallingConfig": choice}))),
            ("generationConfig", (!config.is_empty()).then_some(Value::Object(config))),
        ])
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::<ContentReader>::default()
    }
}

/// Reads one answer.
#[derive(Default)]
struct ContentReader {
    /// The call whose result comes next.
    running: Option<String>,
    /// Sources that were given: every chunk names all.
    sources: usize,
}

impl Reader for ContentReader {
    fn frame(&mut self, frame: &Frame, answer: &mut Answer) -> Result<(), Fault> {
        match frame.json()? {
            // The form without `alt=sse`.
            Value::Array(chunks) => chunks.iter().try_for_each(|chunk| self.chunk(chunk, answer)),
            chunk => self.chunk(&chunk, answer),
        }
    }

    fn finish(&mut self, _answer: &mut Answer) {}
}

impl ContentReader {
    fn chunk(&mut self, chunk: &Value, answer: &mut Answer) -> Result<(), Fault> {
        if !chunk["error"].is_null() {
            return Err(Fault::of_error(&chunk["error"]));
        }
        if let Some(reason) = chunk["promptFeedback"]["blockReason"].as_str() {
            return Err(Fault::new("upstream_refused", format!("the prompt is blocked: {reason}")));
        }
        let usage = &chunk["usageMetadata"];
        let usage = usage_of([
            ("input", &usage["promptTokenCount"]),
            ("output", &usage["candidatesTokenCount"]),
            ("reasoning", &usage["thoughtsTokenCount"]),
            ("cached", &usage["cachedContentTokenCount"]),
        ]);
        answer.usage(usage);
        // Of several answers to one question only the first is the run's.
        let candidates = chunk["candidates"].as_array().into_iter().flatten();
        let mut first =
            candidates.filter(|candidate| candidate["index"].as_u64().unwrap_or(0) == 0);
        first.try_for_each(|candidate| self.candidate(candidate, answer))
    }

    fn candidate(&mut self, candidate: &Value, answer: &mut Answer) -> Result<(), Fault> {
        for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
            self.part(part, answer)?;
        }
        let sources = candidate["groundingMetadata"]["groundingChunks"].as_array();
        let sources = sources.into_iter().flatten().skip(self.sources);
        for web in sources.map(|source| &source["web"]) {
            self.sources += 1;
            if let Some(url) = web["uri"].as_str() {
                answer.source(url, web["title"].as_str());
            }
        }
        finish(candidate, answer)
    }

    fn part(&mut self, part: &Value, answer: &mut Answer) -> Result<(), Fault> {
        let is_thought = part["thought"] == true;
        if let Some(text) = part["text"].as_str() {
            if is_thought {
                answer.prose(Prose::Reasoning, text);
            }
            sign(part, answer);
            if !is_thought {
                answer.prose(Prose::Text, text);
            }
            return Ok(());
        }
        sign(part, answer);
        let of = |name: &str| part.get(name);
        if let Some(call) = of("functionCall") {
            let (id, name) = (call["id"].as_str(), call["name"].as_str().unwrap_or_default());
            answer.whole_call(Executor::Client, id, name, &call["args"])?;
        } else if let Some(code) = of("executableCode") {
            let (id, name) = (code["id"].as_str(), "code_execution");
            self.running = Some(answer.whole_call(Executor::Provider, id, name, code)?);
        } else if let Some(result) = of("codeExecutionResult") {
            if let Some(call_id) = self.running.take() {
                let is_error = result["outcome"].as_str().is_some_and(|end| end != "OUTCOME_OK");
                answer.result(&call_id, result, is_error);
            }
        } else if let Some(data) = of("inlineData") {
            let media_type = data["mimeType"].as_str().unwrap_or("application/octet-stream");
            let data = data["data"].as_str().unwrap_or_default();
            answer.file(media_type, &format!("data:{media_type};base64,{data}"));
        }
        Ok(())
    }
}

fn sign(part: &Value, answer: &mut Answer) {
    if part["thoughtSignature"].is_string() {
        answer.sign(json!({"thought_signature": part["thoughtSignature"]}));
    }
}

fn finish(candidate: &Value, answer: &mut Answer) -> Result<(), Fault> {
    let reason = match candidate["finishReason"].as_str() {
        None | Some("" | "FINISH_REASON_UNSPECIFIED") => return Ok(()),
        Some("STOP") if answer.awaits_client() => "tool_calls",
        Some("STOP") => "stop",
        Some("MAX_TOKENS") => "length",
        Some(reason @ ("MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL")) => {
            let said = candidate["finishMessage"].as_str().unwrap_or(reason);
            return Err(Fault::new("upstream_error", format!("{reason}: {said}")));
        }
        Some(
            "SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "IMAGE_SAFETY",
        ) => "content_filter",
        Some(other) => return answer.finish(&other.to_lowercase()),
    };
    answer.finish(reason)
}

#[cfg(test)]
mod tests;
