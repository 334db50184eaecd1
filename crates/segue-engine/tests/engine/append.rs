//! Appends of producers outside.

use segue_core::{Event, EventError, Limits, Seq};
use segue_engine::{AppendError, StartRun, StopRequest};
use serde_json::json;

use super::{detached::by_user_and_wait, support::*};

fn finished() -> Event {
    Event::build(&json!({"type": "run.finished", "finish_reason": "stop"}))
}

#[tokio::test(start_paused = true)]
async fn an_append_answers_with_its_range_inserted_starts_included() {
    let stage = Stage::new().await;
    let run = stage.push("s").await;
    let first = stage.append(&run.id, "a").await;
    assert_eq!((first.first_seq, first.last_seq), (Seq(2), Seq(3)));
    let second = stage.append(&run.id, "b").await;
    assert_eq!((second.first_seq, second.last_seq), (Seq(4), Seq(4)));
    assert!(!second.duplicate && !second.stop_requested);
}

#[tokio::test(start_paused = true)]
async fn a_terminal_ends_the_run_in_the_batch_that_brings_it() {
    let stage = Stage::new().await;
    let run = stage.push("s").await;
    let last = vec![text("bye"), finished()];
    let pending = stage.engine.append(tenant(), &run.id, last, claim(0)).await.unwrap();
    let appended = pending.await.unwrap();
    assert_eq!((appended.first_seq, appended.last_seq), (Seq(2), Seq(5)));
    let events = stage.follow(&run.id).await;
    check_whole(&events);
    assert_eq!(types(&events)[1..], ["text.start", "text.delta", "text.end", "run.finished"]);
    let refused = stage.engine.append(tenant(), &run.id, vec![text("more")], None).await;
    assert_eq!(refused.err(), Some(AppendError::RunEnded));
    let retried = stage.engine.append(tenant(), &run.id, vec![finished()], claim(0)).await;
    let retried = retried.unwrap().await.unwrap();
    assert!(retried.duplicate);
    assert_eq!((retried.first_seq, retried.last_seq), (Seq(2), Seq(5)));
}

#[tokio::test(start_paused = true)]
async fn a_retry_gets_the_original_answer_and_changes_nothing() {
    let stage = Stage::new().await;
    let run = stage.push("s").await;
    let append = async |seq: u64| {
        let pending = stage.engine.append(tenant(), &run.id, vec![text("x")], claim(seq)).await?;
        pending.await
    };
    let original = append(0).await.unwrap();
    let retry = append(0).await.unwrap();
    assert!(retry.duplicate && !original.duplicate);
    assert_eq!((retry.first_seq, retry.last_seq), (original.first_seq, original.last_seq));
    assert_eq!(append(2).await, Err(AppendError::ProducerGap { expected: 1, received: 2 }));
    assert_eq!(append(1).await.unwrap().first_seq, Seq(4));
}

#[tokio::test(start_paused = true)]
async fn a_newer_producer_epoch_restarts_and_fences_the_older() {
    let stage = Stage::new().await;
    let run = stage.push("s").await;
    let append = async |epoch: u64, seq: u64| {
        let claim = claim(seq).map(|claim| segue_journal::ProducerClaim { epoch, ..claim });
        stage.engine.append(tenant(), &run.id, vec![text("x")], claim).await?.await
    };
    append(1, 0).await.unwrap();
    assert_eq!(append(2, 1).await, Err(AppendError::ProducerGap { expected: 0, received: 1 }));
    append(2, 0).await.unwrap();
    assert_eq!(append(1, 1).await, Err(AppendError::StaleProducer { current: 2 }));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_appended_is_named() {
    let stage = Stage::new().await;
    let (driven, _strings) = stage.play("a").await;
    let pushed = stage.push("b").await;
    let none = run_id("none");
    let append = async |run, events| match stage.engine.append(tenant(), run, events, None).await {
        Ok(pending) => pending.await.err(),
        Err(error) => Some(error),
    };
    assert_eq!(append(&driven.id, vec![text("x")]).await, Some(AppendError::NotPush));
    assert_eq!(append(&none, vec![text("x")]).await, Some(AppendError::NotFound));
    let after = vec![finished(), text("x")];
    assert_eq!(append(&pushed.id, after).await, Some(AppendError::AfterTerminal));
    let large = append(&pushed.id, vec![text(&"x".repeat(5000))]).await;
    assert!(matches!(large, Some(AppendError::EventTooLarge { max: 4096, .. })));
    assert_eq!(stage.append(&pushed.id, "fine").await.first_seq, Seq(2), "nothing was stored");
}

#[tokio::test(start_paused = true)]
async fn a_stop_leaves_a_producer_its_grace_for_last_words() {
    let stage = Stage::new().await;
    let run = stage.push("s").await;
    let mut inbox = stage.engine.control(tenant(), &run.id).unwrap();
    let stop = stage.engine.stop_run(tenant(), &run.id, StopRequest::by_user()).await.unwrap();
    assert!(stop.stopped);
    assert_eq!(inbox.next(0).await.unwrap().id, 1);
    assert!(stage.append(&run.id, "last words").await.stop_requested);
    let pending = stage.engine.append(tenant(), &run.id, vec![finished()], None).await.unwrap();
    pending.await.unwrap();
    assert_eq!(inbox.next(1).await, None);
    let events = stage.follow(&run.id).await;
    check_whole(&events);
    let terminal = events.last().unwrap();
    assert_eq!((&terminal["type"], &terminal["reason"]), (&json!("run.stopped"), &json!("user")));
    assert_eq!(terminal["source_outcome"]["status"], "finished");
}

#[tokio::test(start_paused = true)]
async fn a_silent_producer_is_stopped_after_its_grace_and_then_refused() {
    let stage = Stage::new().await;
    let run = stage.push("s").await;
    stage.engine.stop_run(tenant(), &run.id, by_user_and_wait()).await.unwrap();
    check_whole(&stage.follow(&run.id).await);
    let late = stage.engine.append(tenant(), &run.id, vec![text("late")], claim(0)).await;
    assert_eq!(late.err(), Some(AppendError::RunEnded));
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_interrupts_and_signs_of_life_renew_it() {
    let stage = Stage::new().await;
    let limits = Limits { lease_s: 10, ..Limits::default() };
    let request = StartRun { limits, ..StartRun::of(agent("push")) };
    let run = stage.engine.start(tenant(), request).await.unwrap().run;
    for _ in 0..5 {
        tokio::time::advance(std::time::Duration::from_secs(8)).await;
        stage.engine.renew_lease(tenant(), &run.id);
        tokio::task::yield_now().await;
    }
    assert_eq!(stage.status(&run.id).await, "running");
    let events = stage.follow(&run.id).await;
    check_whole(&events);
    assert_eq!(events.last().unwrap()["cause"], "lease_lost");
}

/// Somebody else writes to the stream, so what the engine expects does not hold any more.
async fn write_beside(stage: &Stage, run: &segue_core::RunId) {
    let foreign = Event::from_producer(&br#"{"type":"data","name":"n"}"#[..].into(), 100);
    let record = segue_core::EventRecord::encode(&foreign.unwrap());
    let stream = Stage::stream(run);
    let part = segue_journal::Part::append(stream.clone(), segue_journal::Epoch(1), vec![record]);
    let permit = stage.journal.reserve(&stream, 1000).await.unwrap();
    let batch = segue_journal::Batch { parts: vec![part] };
    stage.journal.submit(permit, batch).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_failed_append_does_not_leave_the_next_one_wrong() {
    let stage = Stage::new().await;
    let run = stage.push("s").await;
    write_beside(&stage, &run.id).await;
    let pending = stage.engine.append(tenant(), &run.id, vec![text("a")], None).await.unwrap();
    assert_eq!(pending.await, Err(AppendError::Retry));
    assert_eq!(stage.append(&run.id, "a").await.first_seq, Seq(3));
}

#[tokio::test(start_paused = true)]
async fn a_retry_of_what_failed_unseen_is_not_taken_for_done() {
    let stage = Stage::new().await;
    let run = stage.push("s").await;
    write_beside(&stage, &run.id).await;
    let append = || stage.engine.append(tenant(), &run.id, vec![text("a")], claim(0));
    // The producer is cut off before the refusal, so nobody hears it.
    drop(append().await.unwrap());
    assert_eq!(append().await.unwrap().await, Err(AppendError::Retry));
    let stored = append().await.unwrap().await.unwrap();
    assert_eq!((stored.duplicate, stored.first_seq), (false, Seq(3)));
}

#[tokio::test(start_paused = true)]
async fn a_retried_terminal_gets_its_original_answer_at_any_time() {
    let stage = Stage::new().await;
    let run = stage.push("s").await;
    let end = || stage.engine.append(tenant(), &run.id, vec![finished()], claim(0));
    // The retry is on its way to the owner while the first is being written.
    let (first, retry) = tokio::join!(end(), end());
    let (first, retry) = (first.unwrap().await, retry.unwrap().await);
    let (first, retry) = (first.unwrap(), retry.unwrap());
    assert_eq!((first.duplicate, retry.duplicate), (false, true));
    assert_eq!((first.first_seq, first.last_seq), (retry.first_seq, retry.last_seq));
}

#[tokio::test(start_paused = true)]
async fn a_retry_gets_its_original_answer_while_the_end_is_being_written() {
    let (stage, journal) = Stage::holdable().await;
    let run = stage.push("s").await;
    let append = async |events, claim| stage.engine.append(tenant(), &run.id, events, claim).await;
    append(vec![text("a")], claim(0)).await.unwrap().await.unwrap();
    let hold = journal.hold();
    let end = append(vec![finished()], claim(1)).await.unwrap();
    // Its owner submits it.
    tokio::task::yield_now().await;
    let early = append(vec![text("a")], claim(0)).await.unwrap();
    let again = append(vec![finished()], claim(1)).await.unwrap();
    drop(hold);
    let (early, end, again) = (early.await.unwrap(), end.await.unwrap(), again.await.unwrap());
    assert_eq!((early.duplicate, end.duplicate, again.duplicate), (true, false, true));
    assert_eq!((again.first_seq, again.last_seq), (end.first_seq, end.last_seq));
    check_whole(&stage.follow(&run.id).await);
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_goes_beyond_what_an_ended_run_has_names_the_gap() {
    let stage = Stage::new().await;
    let run = stage.push("s").await;
    let append =
        async |events, claim| stage.engine.append(tenant(), &run.id, events, claim).await?.await;
    append(vec![text("a"), text("b")], claims(0, 1)).await.unwrap();
    append(vec![finished()], None).await.unwrap();
    let beyond = append(vec![text("b"), text("c")], claims(1, 2)).await;
    assert_eq!(beyond, Err(AppendError::ProducerGap { expected: 2, received: 1 }));
    assert_eq!(append(vec![text("c")], claim(2)).await, Err(AppendError::RunEnded));
    assert!(append(vec![text("b")], claim(1)).await.unwrap().duplicate);
}

#[tokio::test(start_paused = true)]
async fn retries_are_signs_of_life() {
    let stage = Stage::new().await;
    let limits = Limits { lease_s: 10, ..Limits::default() };
    let request = StartRun { limits, ..StartRun::of(agent("push")) };
    let run = stage.engine.start(tenant(), request).await.unwrap().run;
    for _ in 0..5 {
        let known = stage.engine.append(tenant(), &run.id, vec![text("a")], claim(0)).await;
        known.unwrap().await.unwrap();
        tokio::time::advance(std::time::Duration::from_secs(6)).await;
    }
    assert_eq!(stage.status(&run.id).await, "running");
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_leaves_at_the_owners_door_holds_up_nobody() {
    let stage = Stage::new().await;
    let run = stage.push("s").await;
    for _ in 0..40 {
        let end = stage.engine.append(tenant(), &run.id, vec![finished(), finished()], None);
        assert_eq!(end.await.err(), Some(AppendError::AfterTerminal));
    }
    assert_eq!(stage.append(&run.id, "still open").await.first_seq, Seq(2));
}

#[tokio::test(start_paused = true)]
async fn nothing_overtakes_a_terminal() {
    let stage = Stage::new().await;
    let run = stage.push("s").await;
    let append = |event: Event| stage.engine.append(tenant(), &run.id, vec![event], None);
    let end = append(finished()).await.unwrap();
    let (late, end) = tokio::join!(append(text("late")), end);
    end.unwrap();
    assert_eq!(late.err(), Some(AppendError::RunEnded));
    assert_eq!(append(text("late")).await.err(), Some(AppendError::RunEnded));
    assert_eq!(types(&stage.follow(&run.id).await), ["run.started", "run.finished"]);
}

/// Lines are gathered, so that a body's last words may hold what a producer that lost its connection
/// sends again one by one.
#[tokio::test(start_paused = true)]
async fn a_retry_of_what_is_among_last_words_waits_for_them_and_is_a_duplicate() {
    let (stage, journal) = Stage::holdable().await;
    let run = stage.push("s").await;
    let hold = journal.hold();
    let append = |events, claim| stage.engine.append(tenant(), &run.id, events, claim);
    let end = append(vec![text("a"), text("b"), finished()], claims(0, 2)).await.unwrap();
    let again = async { append(vec![text("a")], claim(0)).await.unwrap().await };
    let release = async {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        drop(hold);
    };
    let (end, again, ()) = tokio::join!(end, again, release);
    let (end, again) = (end.unwrap(), again.unwrap());
    assert!(again.duplicate && again.last_seq <= end.last_seq);
    let events = stage.follow(&run.id).await;
    check_whole(&events);
    assert_eq!(events.iter().filter(|event| event["type"] == "text.delta").count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_number_that_adds_nothing_is_accepted() {
    let stage = Stage::new().await;
    let run = stage.push("s").await;
    let end = Event::build(&json!({"type": "text.end", "part": "never opened"}));
    let append = async |event: &Event, seq| {
        stage.engine.append(tenant(), &run.id, vec![event.clone()], claim(seq)).await?.await
    };
    let nothing = append(&end, 0).await.unwrap();
    assert_eq!((nothing.first_seq, nothing.last_seq), (Seq(2), Seq(1)));
    assert!(append(&end, 0).await.unwrap().duplicate);
    assert_eq!(append(&text("a"), 1).await.unwrap().first_seq, Seq(2));
}

#[test]
fn forged_events_never_reach_the_engine() {
    let refused = Event::from_producer(&br#"{"type":"run.stopped"}"#[..].into(), 100);
    assert_eq!(refused, Err(EventError::Reserved("run.stopped".into())));
}
