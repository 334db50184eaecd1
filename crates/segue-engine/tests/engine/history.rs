//! What a source is told of the conversation before its run.

use segue_core::{MessageId, Policy, fold::said};
use segue_engine::{CreateMessage, RunView, StartRun};
use serde_json::{Value, json};

use super::support::*;

fn request(input: Value) -> StartRun {
    StartRun { session: Some(session_id("s")), input, ..StartRun::of(agent("puppet")) }
}

impl Stage {
    async fn ask(&self, request: StartRun) -> (RunView, Strings) {
        let run = self.engine.start(tenant(), request).await.unwrap().run;
        let strings = self.puppet.strings(&run.id).await;
        (run, strings)
    }

    /// A whole turn; gives what the source was told, `role: text` a line.
    async fn turn(&self, input: Value, answer: &str) -> Vec<String> {
        let (run, strings) = self.ask(request(input)).await;
        strings.give(text(answer)).await;
        strings.finish().await;
        self.follow(&run.id).await;
        told(&strings)
    }

    async fn say(&self, role: &str, words: &str, is_summary: bool) {
        let said = said::one(&json!({"role": role, "content": words})).unwrap();
        let request = CreateMessage { said, is_summary, replaces: None };
        self.engine.create_message(tenant(), &session_id("s"), request).await.unwrap();
    }
}

fn told(strings: &Strings) -> Vec<String> {
    let line = |turn: &Value| {
        let parts = turn["parts"].as_array().unwrap().iter();
        let texts: Vec<_> = parts.map(|part| part["text"].as_str().unwrap_or("?")).collect();
        format!("{}: {}", turn["role"].as_str().unwrap(), texts.concat())
    };
    strings.history.iter().map(line).collect()
}

#[tokio::test(start_paused = true)]
async fn a_second_question_is_asked_in_the_light_of_the_first() {
    let stage = Stage::new().await;
    assert_eq!(stage.turn(json!("one"), "1").await, Vec::<String>::new());
    let expected = ["user: one", "assistant: 1"];
    assert_eq!(stage.turn(json!("two"), "2").await, expected);
    // Not what the input itself says, and nothing where the input brings the conversation.
    let own = json!([{"role": "system", "content": "x"}, {"role": "user", "content": "three"}]);
    assert_eq!(stage.turn(own, "3").await.len(), 4);
    let all = json!([{"role": "assistant", "content": "x"}, {"role": "user", "content": "y"}]);
    assert_eq!(stage.turn(all, "4").await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn the_system_and_the_summary_come_first_and_what_is_told_is_bounded() {
    let stage = Stage::new().await;
    stage.say("system", "be brief", false).await;
    stage.turn(json!("long ago"), "yes").await;
    stage.say("assistant", "in short", true).await;
    stage.turn(json!("one"), "1").await;
    let expected = ["system: be brief", "user: in short", "user: one", "assistant: 1"];
    assert_eq!(stage.turn(json!("two"), "2").await, expected);
    let long = "x".repeat(TOLD);
    stage.turn(json!("three"), &long).await;
    assert_eq!(stage.turn(json!("four"), "4").await, ["system: be brief"]);
    assert_eq!(
        stage.turn(json!("five"), "5").await,
        ["system: be brief", "user: four", "assistant: 4"]
    );
    for index in 0..40 {
        stage.say("user", &format!("{index}"), false).await;
    }
    let told = stage.turn(json!("six"), "6").await;
    assert!(told.len() > 20 && told.last().is_some_and(|last| last == "user: 39"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn n01_history_is_what_is_whole_when_the_run_starts() {
    let stage = Stage::new().await;
    let (first, strings) = stage.ask(request(json!("one"))).await;
    strings.give(text("1")).await;
    let beside = StartRun { policy: Policy::Parallel, ..request(json!("beside")) };
    let (other, beside) = stage.ask(beside).await;
    assert_eq!(told(&beside), ["user: one"], "an answer that is not whole is not told");
    beside.finish().await;
    stage.follow(&other.id).await;
    let behind = StartRun { policy: Policy::Queue, ..request(json!("behind")) };
    let queued = stage.engine.start(tenant(), behind).await.unwrap().run;
    let later = StartRun { policy: Policy::Queue, ..request(json!("later")) };
    stage.engine.start(tenant(), later).await.unwrap();
    strings.finish().await;
    stage.follow(&first.id).await;
    let behind = stage.puppet.strings(&queued.id).await;
    let expected = ["user: one", "assistant: 1", "user: beside"];
    assert_eq!(told(&behind), expected, "what was asked later is not told either");
    behind.finish().await;
}

#[tokio::test(start_paused = true)]
async fn branches_are_told_as_they_are_now() {
    let stage = Stage::new().await;
    let (first, strings) = stage.ask(request(json!("one"))).await;
    let call =
        json!({"type": "tool_call.started", "call_id": "c", "name": "f", "executor": "client"});
    for event in [call, json!({"type": "tool_call.input_end", "call_id": "c", "input": {}})] {
        strings.give(segue_core::Event::build(&event)).await;
    }
    strings.finish().await;
    stage.follow(&first.id).await;
    let output = json!([{"type": "tool_result", "call_id": "c", "output": "4"}]);
    let input = json!([{"role": "tool", "parts": output}]);
    let go_on = StartRun { continues: Some(first.id.clone()), ..request(input) };
    let (second, strings) = stage.ask(go_on).await;
    let kinds = |strings: &Strings| {
        let parts = strings.history.iter().flat_map(|turn| turn["parts"].as_array().unwrap());
        parts.map(|part| part["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&strings), ["text", "tool_call"], "the result is the run's own input");
    strings.give(text("four")).await;
    strings.finish().await;
    stage.follow(&second.id).await;
    let (third, strings) = stage.ask(request(json!("more"))).await;
    assert_eq!(kinds(&strings), ["text", "tool_call", "tool_result", "text"]);
    strings.finish().await;
    stage.follow(&third.id).await;
    let replaces = Some(MessageId::of_run(&third.id));
    let (_, strings) = stage.ask(StartRun { replaces, ..request(Value::Null) }).await;
    assert_eq!(kinds(&strings), ["text", "tool_call", "tool_result", "text", "text"]);
    assert_eq!(told(&strings).last().map(String::as_str), Some("user: more"));
    strings.finish().await;
}
