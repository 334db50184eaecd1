//! A chat's messages as ours. Pure.

use serde_json::{Value, json};

use super::{
    input::{file, image, text_part},
    refusal::Refusal,
};

/// The input of a run: its messages, or the text alone where nothing else is said.
pub(super) fn of_request(messages: &Value) -> Result<Value, Refusal> {
    let list = messages.as_array().filter(|list| !list.is_empty());
    let list = list.ok_or_else(|| {
        Refusal::of_param("messages", "`messages` is a list of messages, of which there is one")
    })?;
    if let [only] = &list[..]
        && only["role"] == "user"
        && only["content"].is_string()
    {
        return Ok(only["content"].clone());
    }
    let read = list.iter().enumerate().map(|(at, fields)| Message { at, fields }.read());
    read.collect()
}

struct Message<'a> {
    at: usize,
    fields: &'a Value,
}

impl Message<'_> {
    fn wrong(&self, field: &str, detail: &str) -> Refusal {
        let place = format!("messages[{}]{field}", self.at);
        Refusal::of_param(place.clone(), format!("`{place}` {detail}"))
    }

    fn read(&self) -> Result<Value, Refusal> {
        let (role, parts) = match self.fields["role"].as_str() {
            Some("system" | "developer") => ("system", self.content()?),
            Some("user") => ("user", self.content()?),
            Some("assistant") => ("assistant", self.answer()?),
            Some("tool") => ("tool", vec![self.result()?]),
            _ => return Err(self.wrong(".role", "is no role of a message")),
        };
        Ok(json!({"role": role, "parts": parts}))
    }

    fn content(&self) -> Result<Vec<Value>, Refusal> {
        match &self.fields["content"] {
            Value::String(text) => Ok(vec![text_part(text)]),
            Value::Array(parts) => {
                parts.iter().enumerate().map(|(at, part)| self.part(at, part)).collect()
            }
            _ => Err(self.wrong(".content", "is no text and no list")),
        }
    }

    fn part(&self, at: usize, part: &Value) -> Result<Value, Refusal> {
        let said = match part["type"].as_str().unwrap_or_default() {
            "text" => part["text"].as_str().map(text_part),
            "refusal" => part["refusal"].as_str().map(text_part),
            "image_url" => part["image_url"]["url"].as_str().map(image),
            "file" => file(&part["file"]),
            _ => None,
        };
        said.ok_or_else(|| self.wrong(&format!(".content[{at}]"), "cannot be said to an agent"))
    }

    /// What the model said and called.
    fn answer(&self) -> Result<Vec<Value>, Refusal> {
        let mut parts = Vec::new();
        if let Some(text) = self.fields["reasoning_content"].as_str() {
            parts.push(json!({"type": "reasoning", "text": text}));
        }
        if !self.fields["content"].is_null() {
            parts.extend(self.content()?);
        }
        if let Some(text) = self.fields["refusal"].as_str() {
            parts.push(text_part(text));
        }
        let calls = self.fields["tool_calls"].as_array().into_iter().flatten();
        for (at, call) in calls.enumerate() {
            parts.push(self.call(at, call)?);
        }
        Ok(parts)
    }

    fn call(&self, at: usize, call: &Value) -> Result<Value, Refusal> {
        let function = &call["function"];
        let (Some(id), Some(name)) = (call["id"].as_str(), function["name"].as_str()) else {
            let place = format!(".tool_calls[{at}]");
            return Err(self.wrong(&place, "is no call of a function: it has no `id` or no name"));
        };
        let mut part =
            json!({"type": "tool_call", "call_id": id, "name": name, "executor": "client"});
        let arguments = function["arguments"].as_str().unwrap_or_default();
        match serde_json::from_str::<Value>(arguments) {
            Ok(input) => part["input"] = input,
            Err(_) => part["raw"] = arguments.into(),
        }
        Ok(part)
    }

    fn result(&self) -> Result<Value, Refusal> {
        let Some(call) = self.fields["tool_call_id"].as_str() else {
            return Err(self.wrong(".tool_call_id", "is no text"));
        };
        let texts = |parts: &[Value]| {
            parts.iter().filter_map(|part| part["text"].as_str()).collect::<String>()
        };
        let output = match &self.fields["content"] {
            Value::String(text) => text.clone(),
            Value::Array(parts) => texts(parts),
            _ => return Err(self.wrong(".content", "is no text and no list")),
        };
        Ok(json!({"type": "tool_result", "call_id": call, "output": output}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_alone_stays_a_text() {
        let messages = json!([{"role": "user", "content": "hi", "name": "n"}]);
        assert_eq!(of_request(&messages).expect("said"), json!("hi"));
    }

    #[test]
    fn a_conversation_is_ours() {
        let messages = json!([
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/gif;base64,AA=="}},
                {"type": "file", "file": {"file_data": "data:application/pdf;base64,AA==", "filename": "y"}},
            ]},
            {"role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}},
                {"id": "d", "type": "function", "function": {"name": "f", "arguments": "{"}},
            ]},
            {"role": "tool", "tool_call_id": "c", "content": "42"},
            {"role": "tool", "tool_call_id": "d", "content": [{"type": "text", "text": "no"}]},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
            {"role": "user", "content": "and?"},
        ]);
        let text = |text: &str| json!({"type": "text", "text": text});
        let result =
            |id: &str, text: &str| json!({"type": "tool_result", "call_id": id, "output": text});
        let file = "data:application/pdf;base64,AA==";
        let wanted = json!([
            {"role": "system", "parts": [text("be brief")]},
            {"role": "user", "parts": [
                text("look"),
                {"type": "file", "media_type": "image/gif", "url": "data:image/gif;base64,AA=="},
                {"type": "file", "media_type": "application/pdf", "url": file, "name": "y"},
            ]},
            {"role": "assistant", "parts": [
                {"type": "reasoning", "text": "hm"},
                {"type": "tool_call", "call_id": "c", "name": "f", "executor": "client",
                    "input": {"a": 1}},
                {"type": "tool_call", "call_id": "d", "name": "f", "executor": "client",
                    "raw": "{"},
            ]},
            {"role": "tool", "parts": [result("c", "42")]},
            {"role": "tool", "parts": [result("d", "no")]},
            {"role": "assistant", "parts": [text("no")]},
            {"role": "user", "parts": [text("and?")]},
        ]);
        assert_eq!(of_request(&messages).expect("said"), wanted);
    }

    #[test]
    fn what_cannot_be_said_is_named_by_its_place() {
        let audio = json!([{"type": "input_audio", "input_audio": {}}]);
        for (messages, place) in [
            (json!(null), "`messages`"),
            (json!([]), "`messages`"),
            (json!([{"role": "function", "content": ""}]), "`messages[0].role`"),
            (json!([{"role": "user"}]), "`messages[0].content`"),
            (json!([{"role": "user", "content": audio}]), "`messages[0].content[0]`"),
            (json!([{"role": "tool", "content": ""}]), "`messages[0].tool_call_id`"),
            (json!([{"role": "assistant", "tool_calls": [{}]}]), "`messages[0].tool_calls[0]`"),
        ] {
            let refusal = of_request(&messages).expect_err("refused");
            assert!(format!("{refusal:?}").contains(place), "{refusal:?}");
        }
    }
}
