//! `OpenAI`'s facades.

use segue_core::{AgentName, MessageId, RunStatus, SessionId};
use segue_engine::RunView;

use super::*;
use crate::facade::{Asked, OPENAI_MARK, Whole as _};

/// A run as the views have it.
fn view(asked: &Value) -> RunView {
    RunView {
        id: run(),
        session_id: SessionId::parse("s").expect("valid"),
        agent: AgentName::parse("gpt").expect("valid"),
        status: RunStatus::Running,
        reason: None,
        cause: None,
        error: None,
        message_id: MessageId::parse("m").expect("valid"),
        continues: None,
        last_seq: Seq(1),
        created_at: Timestamp::from_millis(0),
        started_at: None,
        ended_at: None,
        usage: None,
        metadata: json!({ OPENAI_MARK: asked }),
    }
}

pub(super) fn responses() -> OpenAiResponses {
    let tools = json!([{"type": "function", "name": "a", "parameters": {}}]);
    OpenAiResponses::new(Asked::of(&view(&json!({
        "model": "gpt", "instructions": "be brief", "metadata": {"k": "v"}, "tools": tools,
        "previous_response_id": "resp_r0", "temperature": 0.5,
    }))))
}

pub(super) fn chat() -> OpenAiChat {
    let tools = json!([{"type": "function", "function": {"name": "a"}}]);
    OpenAiChat::new(Asked::of(&view(&json!({
        "model": "gpt", "metadata": {"k": "v"}, "tools": tools,
        "stream_options": {"include_usage": true},
    }))))
}

/// What the Responses API has words of its own for: calls of both kinds, sources, images,
/// approvals.
fn sample_of_items() -> Vec<Record> {
    let events = [
        json!({"type": "run.queued", "session_id": "s", "message_id": "m", "turn": 1}),
        json!({"type": "run.started", "session_id": "s", "message_id": "m"}),
        json!({"type": "source", "url": "https://early/"}),
        json!({"type": "reasoning.start", "part": "r"}),
        json!({"type": "reasoning.delta", "part": "r", "text": "hm"}),
        json!({"type": "reasoning.end", "part": "r", "signature": {"id": "rs_1"}}),
        json!({"type": "text.start", "part": "p"}),
        json!({"type": "text.delta", "part": "p", "text": "so é"}),
        json!({"type": "source", "url": "https://x/", "title": "X"}),
        json!({"type": "text.end", "part": "p"}),
        json!({"type": "tool_call.started", "call_id": "c", "name": "f", "executor": "server"}),
        json!({"type": "tool_call.input_delta", "call_id": "c", "text": "{\"x\":"}),
        json!({"type": "tool_call.input_delta", "call_id": "c", "text": "1}"}),
        json!({"type": "tool_call.input_end", "call_id": "c", "input": {"x": 1}}),
        json!({"type": "approval.requested", "approval_id": "q", "call_id": "c", "prompt": "?"}),
        json!({"type": "tool_result", "call_id": "c", "output": "half", "preliminary": true}),
        json!({"type": "tool_result", "call_id": "c", "output": {"y": 2}}),
        json!({"type": "tool_call.started", "call_id": "d", "name": "f"}),
        json!({"type": "tool_result", "call_id": "d", "error": {"code": "x", "message": "no"}}),
        json!({"type": "file", "media_type": "image/png", "url": "data:image/png;base64,AA=="}),
        json!({"type": "file", "media_type": "image/png", "url": "https://x/y.png"}),
        json!({"type": "tool_call.started", "call_id": "e", "name": "a"}),
        json!({"type": "tool_call.input_end", "call_id": "e", "input": {"z": [3]}}),
        json!({"type": "tool_call.started", "call_id": "g", "name": "h", "executor": "client"}),
        json!({"type": "tool_call.input_delta", "call_id": "g", "text": "{"}),
        json!({"type": "tool_call.input_end", "call_id": "g", "error": "cut"}),
        json!({"type": "tool_result", "call_id": "e", "error": "the run ended"}),
        json!({"type": "usage", "input": 1, "output": 2, "cached": 1}),
        json!({"type": "usage", "input": 3, "output": 4, "reasoning": 1, "cumulative": false}),
        json!({"type": "run.finished", "finish_reason": "tool_calls", "status": "finished"}),
    ];
    events.iter().zip(1..).map(|(fields, seq)| record(seq, fields)).collect()
}

#[test]
fn golden_openai_responses() {
    check("openai_responses.sse", &encode(&mut responses(), &sample()));
    check("openai_responses_more.sse", &encode(&mut responses(), &sample_of_items()));
}

/// Every end, and before it a text that is open.
fn ends() -> [Value; 6] {
    [
        json!({"type": "run.finished", "finish_reason": "stop", "usage": {"input": 1, "output": 2}}),
        json!({"type": "run.finished", "finish_reason": "length"}),
        json!({"type": "run.finished", "finish_reason": "content_filter"}),
        json!({"type": "run.stopped", "reason": "user"}),
        json!({"type": "run.failed", "error": {"code": "upstream", "message": "no answer"}}),
        json!({"type": "run.interrupted", "cause": "restart"}),
    ]
}

fn begin() -> [Record; 2] {
    [
        record(1, &json!({"type": "run.started", "message_id": "m"})),
        record(2, &json!({"type": "text.delta", "part": "p", "text": "hi"})),
    ]
}

#[test]
fn golden_openai_responses_ends() {
    let frames = ends().map(|end| {
        let mut facade = responses();
        encode(&mut facade, &begin());
        encode(&mut facade, &[record(3, &end)])
    });
    check("openai_responses_ends.sse", &frames.join("---\n"));
}

#[test]
fn golden_openai_chat() {
    check("openai_chat.sse", &encode(&mut chat(), &sample()));
    check("openai_chat_more.sse", &encode(&mut chat(), &sample_of_items()));
    let bare = OpenAiChat::new(Asked::of(&view(&Value::Null)));
    check("openai_chat_bare.sse", &encode(&mut bare.clone(), &sample()));
}

#[test]
fn golden_openai_chat_ends() {
    let frames = ends().map(|end| {
        let mut facade = chat();
        encode(&mut facade, &begin());
        encode(&mut facade, &[record(3, &end)])
    });
    check("openai_chat_ends.sse", &frames.join("---\n"));
}

/// What a client makes of the chunks of a stream, and what its last frame is.
fn accumulated(frames: &[String]) -> (Value, String) {
    let mut message = json!({"content": "", "tool_calls": []});
    let mut last = String::new();
    for frame in frames {
        let data = frame.lines().next().and_then(|line| line.strip_prefix("data: "));
        data.expect("data").clone_into(&mut last);
        let chunk: Value = serde_json::from_str(&last).unwrap_or_default();
        let choice = &chunk["choices"][0];
        if let (Some(more), Value::String(text)) =
            (choice["delta"]["content"].as_str(), &mut message["content"])
        {
            text.push_str(more);
        }
        for call in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
            add_call(message["tool_calls"].as_array_mut().expect("calls"), call);
        }
        if choice["finish_reason"].is_string() {
            message["finish_reason"] = choice["finish_reason"].clone();
        }
    }
    (message, last)
}

/// A call begins at the next index with its id and name; its arguments come in pieces.
fn add_call(calls: &mut Vec<Value>, piece: &Value) {
    let index = piece["index"].as_u64().and_then(|index| usize::try_from(index).ok());
    let index = index.expect("an index");
    if index == calls.len() {
        assert!(piece["id"].is_string() && piece["function"]["name"].is_string());
        let mut call = piece.clone();
        call.as_object_mut().expect("an object").remove("index");
        calls.push(call);
        return;
    }
    assert!(piece.get("id").is_none(), "an id begins a call");
    let more = piece["function"]["arguments"].as_str().expect("arguments");
    if let Value::String(arguments) = &mut calls[index]["function"]["arguments"] {
        arguments.push_str(more);
    }
}

/// The events of frames.
fn events(frames: &[String]) -> Vec<Value> {
    let data = frames.iter().map(|frame| {
        let mut lines = frame.lines();
        let name = lines.next().and_then(|line| line.strip_prefix("event: ")).expect("a name");
        let data = lines.next().and_then(|line| line.strip_prefix("data: ")).expect("data");
        let event: Value = serde_json::from_str(data).expect("JSON");
        assert_eq!(event["type"], name);
        event
    });
    data.collect()
}

#[test]
fn the_response_at_rest_is_that_of_the_last_event() {
    for records in [sample(), sample_of_items()] {
        let last = events(&frames_of(&mut responses(), &records)).pop().expect("an event");
        let mut facade = responses();
        for record in &records {
            facade.take(record);
        }
        assert_eq!(facade.object(), last["response"]);
    }
}

proptest! {
    /// Chunks together are the completion at rest; only a whole answer ends with `[DONE]`.
    #[test]
    fn the_chunks_of_a_chat_are_its_completion(
        events in prop::collection::vec(any_event(), 0..30),
        end in prop::sample::select(ends().to_vec()),
    ) {
        let started = json!({"type": "run.started", "message_id": "m"});
        let all = std::iter::once(&started).chain(&events).chain([&end]);
        let records: Vec<Record> = all.zip(1..).map(|(fields, seq)| record(seq, fields)).collect();
        let (message, last) = accumulated(&frames_of(&mut chat(), &records));
        let mut facade = chat();
        for record in &records {
            facade.take(record);
        }
        let object = facade.object();
        let choice = &object["choices"][0];
        let content = choice["message"]["content"].as_str().unwrap_or_default();
        prop_assert_eq!(&message["content"], content);
        let none = json!([]);
        let calls = choice["message"].get("tool_calls").unwrap_or(&none);
        prop_assert_eq!(&message["tool_calls"], calls);
        prop_assert_eq!(&message["finish_reason"], &choice["finish_reason"]);
        let is_whole = end["type"] == "run.finished";
        prop_assert_eq!(last == "[DONE]", is_whole);
        prop_assert_eq!(last.starts_with("{\"error\""), !is_whole);
        prop_assert_eq!(facade.broken().is_some(), !is_whole);
    }

    /// A cursor of the API counts frames: whatever it is, what comes is the rest.
    #[test]
    fn starting_after_gives_exactly_the_frames_after_it(
        events in prop::collection::vec(any_event(), 0..20),
        number in 0..90_u64,
    ) {
        let started = json!({"type": "run.started", "message_id": "m"});
        let all = std::iter::once(&started).chain(&events);
        let records: Vec<Record> = all.zip(1..).map(|(fields, seq)| record(seq, fields)).collect();
        let whole = frames_of(&mut responses(), &records);
        let rest = frames_of(&mut responses().after(number), &records);
        let known = usize::try_from(number + 1).expect("small").min(whole.len());
        prop_assert_eq!(&whole[known..], &rest[..]);
    }

    /// What `openai` 7 throws at: numbers with holes, items and contents that are not the next one,
    /// deltas and ends of what is not there or is done.
    #[test]
    fn a_responses_accumulator_never_sees_an_event_out_of_place(
        records in prop::collection::vec(any_event(), 0..30),
        end in prop::sample::select(ends().to_vec()),
    ) {
        let started = json!({"type": "run.started", "message_id": "m"});
        let all = std::iter::once(&started).chain(&records).chain([&end]);
        let records: Vec<Record> = all.zip(1..).map(|(fields, seq)| record(seq, fields)).collect();
        let mut items: Vec<Value> = Vec::new();
        let mut done = Vec::new();
        let mut last = Value::Null;
        for (event, number) in events(&frames_of(&mut responses(), &records)).iter().zip(0_u64..) {
            prop_assert_eq!(&event["sequence_number"], &json!(number));
            prop_assert!(event.get("error").is_none(), "clients throw at it");
            let kind = event["type"].as_str().expect("a type");
            let index = event["output_index"].as_u64().and_then(|index| usize::try_from(index).ok());
            match (kind, index) {
                ("response.output_item.added", Some(index)) => {
                    prop_assert_eq!(index, items.len());
                    let item = event["item"].clone();
                    prop_assert!(items.iter().all(|other| other["id"] != item["id"]));
                    items.push(item);
                    done.push(false);
                }
                ("response.output_item.done", Some(index)) => {
                    prop_assert!(!std::mem::replace(&mut done[index], true));
                    prop_assert_eq!(&items[index]["id"], &event["item"]["id"]);
                    prop_assert_eq!(&items[index]["type"], &event["item"]["type"]);
                    items[index] = event["item"].clone();
                }
                (_, Some(index)) => {
                    prop_assert_eq!(&items[index]["id"], &event["item_id"]);
                    prop_assert!(!done[index], "{} of an item that is done", kind);
                }
                (_, None) => last = event["response"].clone(),
            }
        }
        prop_assert!(done.iter().all(|done| *done));
        prop_assert_eq!(&last["output"], &json!(items));
    }
}
