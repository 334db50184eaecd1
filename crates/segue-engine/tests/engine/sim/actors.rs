//! Those who talk to the engine on their own: who starts, produces and reads.

use segue_core::{Event, ProducerId, RunId, Seq};
use segue_engine::{AppendError, Engine, Fill, StartError, StartRun};
use segue_journal::ProducerClaim;
use serde_json::json;

use super::{
    dice::Dice,
    world::{Known, Produced, Seen, Tracer},
};
use crate::support::{Lines, lines, run_id, tenant};

/// Starts a run; `new` has those that some answer called new.
pub(super) async fn start(
    engine: Engine,
    request: StartRun,
    new: Known<std::collections::BTreeSet<String>>,
    tracer: Tracer,
) {
    let name = request.run.clone().unwrap();
    let started = engine.start(tenant(), request).await;
    tracer
        .line(|| format!("start {name}: {:?}", started.as_ref().map(|s| (s.is_new, s.run.status))));
    match started {
        Ok(started) if started.is_new => {
            assert!(new.lock().unwrap().insert(name.to_string()), "a run is new once");
        }
        // Busy, of an erased id, or in a session that is being deleted; or, on threads, a kill that
        // takes the task which owns the start before it takes this one.
        Ok(_)
        | Err(
            StartError::Busy(_)
            | StartError::RunExists
            | StartError::ShuttingDown
            | StartError::Journal(AppendError::Retry),
        ) => {}
        Err(error) => panic!("{error}"),
    }
}

/// Sends the next item of a run's producer, or an older one again.
pub(super) async fn produce(
    engine: Engine,
    run: RunId,
    again: Option<u64>,
    known: Known<std::collections::BTreeMap<String, Produced>>,
    tracer: Tracer,
) {
    let number = {
        let mut known = known.lock().unwrap();
        let produced = known.entry(run.to_string()).or_default();
        let newest = produced.next;
        let number = again.filter(|_| newest > 0).map_or(newest, |again| again % newest);
        produced.next = newest.max(number + 1);
        number
    };
    let event = Event::build(&json!({"type": "text.delta", "part": "p", "text": "x", "n": number}));
    let id = ProducerId::parse("producer").unwrap();
    let claim = ProducerClaim { id, epoch: 0, first_seq: number, last_seq: number };
    let answer = match engine.append(tenant(), &run, vec![event], Some(claim)).await {
        Ok(pending) => pending.await,
        Err(refusal) => Err(refusal),
    };
    tracer.line(|| format!("produce {run} {number}: {answer:?}"));
    let mut known = known.lock().unwrap();
    let produced = known.get_mut(run.as_str()).unwrap();
    match answer {
        Ok(appended) => {
            let range = (appended.first_seq.0, appended.last_seq.0);
            let first = *produced.acked.entry(number).or_insert(range);
            // Of numbers before the newest the range is not kept.
            let is_newest = number + 1 == produced.next;
            assert!(!is_newest || first == range, "{run} {number}: {first:?} and {range:?}");
        }
        // What was not taken is sent by that number again.
        Err(AppendError::ProducerGap { expected, .. }) => produced.next = expected,
        Err(_) if !produced.acked.contains_key(&number) => {
            produced.next = produced.next.min(number);
        }
        Err(_) => {}
    }
}

/// Reads on from where it was, as slowly as its dice say, and leaves when they say so.
pub(super) async fn read(engine: Engine, seen: Known<Seen>, mut dice: Dice, tracer: Tracer) {
    let (run, from) = {
        let seen = seen.lock().unwrap();
        (run_id(&seen.run), Seq(seen.from + seen.events.len() as u64))
    };
    let Ok(attached) = engine.attach(tenant(), &run) else { return };
    let shard = engine.shard();
    let Ok(mut reader) = attached.reader(Lines, from, &shard) else { return };
    let mut patience = 1 + dice.below(40);
    while patience > 0 {
        patience -= 1;
        reader.listener().hear();
        match reader.fill(1 + dice.index(200)) {
            Fill::Silent => {}
            Fill::Bytes(bytes) => {
                let events = lines(&bytes);
                tracer.line(|| format!("read {run}: {} of {from}", events.len()));
                seen.lock().unwrap().events.extend(events);
            }
            // At its end, or erased under the reader.
            Fill::End | Fill::Failed(_) => return,
            Fill::Idle => {
                shard.rung().await;
                shard.pump();
            }
        }
    }
}
