//! A naive journal: the rules of the trait as plainly as they can be said, at any cost.

use std::collections::BTreeMap;

use proptest::{
    prelude::*,
    sample::select,
    test_runner::{Config, TestCaseError, TestRunner},
};
use segue_core::Seq;

use super::{
    Fixture,
    support::{batch, part, run},
};
use crate::{
    api::{AppendError, Batch, Op, Part, ProducerClaim, ReadError},
    stream::{Epoch, Incarnation, StreamKey},
};

type Range = (Seq, Seq);
type Model = BTreeMap<StreamKey, Stream>;

#[derive(Clone, Debug, Default)]
struct Stream {
    records: Vec<String>,
    trimmed: u64,
    closed: bool,
    epoch: u64,
    producers: BTreeMap<String, (u64, u64, Range)>,
}

impl Stream {
    fn next(&self) -> Seq {
        Seq(self.records.len() as u64 + 1)
    }

    /// The range of a claim that was accepted before, or whether it follows on.
    fn claim(&self, claim: &ProducerClaim) -> Result<Option<Range>, AppendError> {
        let ProducerClaim { id, epoch, first_seq, last_seq } = claim;
        let (known_epoch, known_seq, range) = match self.producers.get(id.as_str()) {
            None => return follow_on(0, claim),
            Some(known) => *known,
        };
        if *epoch < known_epoch {
            Err(AppendError::StaleProducer { current: known_epoch })
        } else if *epoch > known_epoch {
            follow_on(0, claim)
        } else if first_seq <= last_seq && *last_seq <= known_seq {
            Ok(Some(range))
        } else {
            follow_on(known_seq + 1, claim)
        }
    }
}

fn follow_on(expected: u64, claim: &ProducerClaim) -> Result<Option<Range>, AppendError> {
    let ProducerClaim { first_seq: received, last_seq, .. } = *claim;
    if received == expected && last_seq >= received {
        return Ok(None);
    }
    Err(AppendError::ProducerGap { expected, received })
}

/// What a batch must answer: per part its range, and whether it is a duplicate.
type Expected = Result<(Vec<Option<Range>>, bool), AppendError>;

fn apply(model: &mut Model, batch: &Batch) -> Expected {
    let original = |part: &Part| match (&part.op, model.get(&part.stream)) {
        (Op::Append { producer: Some(claim), .. }, Some(stream)) => stream.claim(claim).ok()?,
        _ => None,
    };
    let originals: Vec<_> = batch.parts.iter().map(original).collect();
    if originals.iter().any(Option::is_some) {
        for part in &batch.parts {
            if let Some(stream) = model.get(&part.stream) {
                fence(stream, part)?;
            }
        }
        return Ok((originals, true));
    }
    let mut after = model.clone();
    let ranges: Result<Vec<_>, _> =
        batch.parts.iter().map(|part| apply_part(&mut after, part).map(Some)).collect();
    let ranges = ranges?;
    *model = after;
    Ok((ranges, false))
}

fn fence(stream: &Stream, part: &Part) -> Result<(), AppendError> {
    if part.epoch.0 < stream.epoch {
        return Err(AppendError::StaleEpoch { current: Epoch(stream.epoch) });
    }
    Ok(())
}

fn apply_part(model: &mut Model, part: &Part) -> Result<Range, AppendError> {
    let key = part.stream.clone();
    if let Op::Append { create: true, .. } = part.op {
        if model.contains_key(&key) {
            return Err(AppendError::Exists(key));
        }
        model.insert(key.clone(), Stream::default());
    }
    let stream = model.get_mut(&key).ok_or_else(|| AppendError::NotFound(key.clone()))?;
    fence(stream, part)?;
    stream.epoch = part.epoch.0;
    let first = stream.next();
    match &part.op {
        Op::Append { records, close, expect, producer, .. } => {
            if let Some(claim) = producer {
                let gap =
                    |expected| AppendError::ProducerGap { expected, received: claim.first_seq };
                if stream.claim(claim)?.is_some() {
                    let known = stream.producers[claim.id.as_str()].1;
                    return Err(gap(known + 1));
                }
                let last = Seq(first.0 + records.len() as u64 - 1);
                let state = (claim.epoch, claim.last_seq, (first, last));
                stream.producers.insert(claim.id.to_string(), state);
            }
            if stream.closed {
                return Err(AppendError::Closed { next: first });
            }
            if let Some(expected) = expect.filter(|expected| *expected != first) {
                return Err(AppendError::Unexpected { expected, next: first });
            }
            let texts = records.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            stream.records.extend(texts);
            stream.closed = *close;
        }
        Op::Trim { before } => {
            stream.trimmed = stream.trimmed.max(before.0.clamp(1, first.0) - 1);
        }
        Op::Delete => drop(model.remove(&key)),
    }
    let last = model.get(&key).map_or(first, Stream::next).prev();
    Ok((first, last))
}

/// A batch to try, or a restart.
#[derive(Clone, Debug)]
enum Step {
    Try(Batch),
    Reopen,
}

fn a_claim() -> impl Strategy<Value = (&'static str, u64, u64, u64)> {
    (select(vec!["p", "q"]), 0..2u64, 0..4u64, 0..3u64)
        .prop_map(|(id, epoch, first, more)| (id, epoch, first, first + more))
}

fn an_append(stream: StreamKey) -> impl Strategy<Value = Part> {
    let flags = (prop::bool::weighted(0.4), prop::bool::weighted(0.05));
    let records = prop::collection::vec("[a-z]{0,6}", 0..4);
    let claim = prop::option::weighted(0.4, a_claim());
    let expect = prop::option::weighted(0.15, 1..6u64);
    (records, flags, expect, claim).prop_map(move |(records, (create, close), expect, claim)| {
        let records: Vec<_> = records.iter().map(String::as_str).collect();
        let mut part = part(&stream, &records);
        if create {
            part = part.creating();
        }
        if close {
            part = part.closing();
        }
        if let Some(seq) = expect {
            part = part.expecting(seq);
        }
        match claim {
            Some((id, epoch, first, last)) => part.claiming(id, epoch, first, last),
            None => part,
        }
    })
}

fn a_part(streams: Vec<StreamKey>) -> impl Strategy<Value = Part> {
    let epoch = prop::option::weighted(0.1, 0..3u64);
    (select(streams), epoch).prop_flat_map(|(stream, epoch)| {
        let (trimmed, deleted) = (stream.clone(), stream.clone());
        let op = prop_oneof![
            20 => an_append(stream),
            1 => (0..8u64).prop_map(move |before| Part::trim(&trimmed, before)),
            1 => Just(Part::delete(&deleted)),
        ];
        op.prop_map(move |part| part.at_epoch(epoch.unwrap_or(1)))
    })
}

fn steps(streams: Vec<StreamKey>) -> impl Strategy<Value = Vec<Step>> {
    let batches = prop::collection::vec(a_part(streams), 1..4).prop_map(batch).prop_map(Step::Try);
    prop::collection::vec(prop_oneof![30 => batches, 1 => Just(Step::Reopen)], 1..50)
}

/// Runs random steps on fresh streams, with a fixed seed, and compares all that can be seen.
pub(super) fn check(fixture: &mut dyn Fixture) {
    let config = Config { cases: 96, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(
        config,
        prop::test_runner::TestRng::deterministic_rng(prop::test_runner::RngAlgorithm::ChaCha),
    );
    let names = vec![run("a"), run("b"), run("c")];
    let mut round = 0;
    // The runner takes a closure that does not change anything, so the fixture hides in a cell.
    let shared = std::cell::RefCell::new((fixture, &mut round));
    let result = runner.run(&steps(names), |steps| {
        let (fixture, round) = &mut *shared.borrow_mut();
        **round += 1;
        let steps = steps.into_iter().map(|step| renamed(step, **round)).collect();
        play(&mut **fixture, steps)
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

/// The same step on streams that no other round uses.
fn renamed(step: Step, round: u64) -> Step {
    let Step::Try(mut batch) = step else { return step };
    for part in &mut batch.parts {
        part.stream = run(&format!("{}{round}", part.stream.id()));
    }
    Step::Try(batch)
}

fn play(fixture: &mut dyn Fixture, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut model = Model::new();
    let mut incarnations: BTreeMap<StreamKey, Incarnation> = BTreeMap::new();
    let mut seen = Vec::new();
    for step in steps {
        let Step::Try(batch) = step else {
            fixture.reopen();
            continue;
        };
        seen.extend(batch.parts.iter().map(|part| part.stream.clone()));
        let expected = apply(&mut model, &batch);
        let committed = fixture.commit(batch.parts.clone());
        match (&committed, &expected) {
            (Ok(committed), Ok((ranges, duplicate))) => {
                prop_assert_eq!(committed.duplicate, *duplicate, "{:?}", &batch);
                let got = committed.parts.iter().map(|part| (part.first_seq, part.last_seq));
                let none = (Seq::ZERO, Seq::ZERO);
                let ranges = ranges.iter().map(|range| range.unwrap_or(none));
                prop_assert_eq!(got.collect::<Vec<_>>(), ranges.collect::<Vec<_>>());
            }
            (got, expected) => {
                prop_assert_eq!(got.as_ref().err(), expected.as_ref().err(), "{:?}", &batch);
            }
        }
        compare(fixture, &model, &seen, &mut incarnations, &batch)?;
    }
    Ok(())
}

fn compare(
    fixture: &dyn Fixture,
    model: &Model,
    seen: &[StreamKey],
    incarnations: &mut BTreeMap<StreamKey, Incarnation>,
    batch: &Batch,
) -> Result<(), TestCaseError> {
    for key in seen {
        let info = fixture.journal().info(key);
        let Some(stream) = model.get(key) else {
            prop_assert_eq!(info, Err(ReadError::NotFound(key.clone())));
            incarnations.remove(key);
            continue;
        };
        let info = info.map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(info.tail.next, stream.next());
        prop_assert_eq!(info.tail.closed, stream.closed);
        prop_assert_eq!(info.epoch, Epoch(stream.epoch));
        prop_assert_eq!(info.available_from, Seq(stream.trimmed + 1));
        let kept = stream.records.iter().skip(usize::try_from(stream.trimmed).expect("small"));
        prop_assert_eq!(fixture.contents(key), kept.cloned().collect::<Vec<_>>());
        let deleted =
            batch.parts.iter().any(|part| part.stream == *key && matches!(part.op, Op::Delete));
        let known = incarnations.insert(key.clone(), info.incarnation);
        prop_assert!(deleted || known.is_none_or(|known| known == info.incarnation));
        let producers = fixture.journal().producers(key).expect("a known stream");
        let producers: BTreeMap<_, _> = producers
            .into_iter()
            .map(|(id, state)| (id.to_string(), (state.epoch, state.last_seq, state.range)))
            .collect();
        prop_assert_eq!(&producers, &stream.producers);
    }
    Ok(())
}
