use std::collections::HashMap;

use super::*;
use crate::stream::Epoch;

impl Base for HashMap<StreamKey, StreamState> {
    fn stream(&self, key: &StreamKey) -> Option<&StreamState> {
        self.get(key)
    }
}

fn key(id: &str) -> StreamKey {
    StreamKey::parse(&format!("default/r/{id}")).expect("well-formed")
}

fn append(id: &str, records: usize) -> Part {
    Part::append(key(id), Epoch(0), vec![Bytes::from_static(b"x"); records])
}

fn create(id: &str, records: usize) -> Part {
    Part::create(key(id), Epoch(0), vec![Bytes::from_static(b"x"); records])
}

fn claiming(mut part: Part, first_seq: u64) -> Part {
    if let Op::Append { producer, .. } = &mut part.op {
        let id = ProducerId::parse("p").expect("well-formed");
        *producer = Some(ProducerClaim { id, epoch: 0, first_seq, last_seq: first_seq });
    }
    part
}

/// A base, a stage on it, and what a writer does with them.
struct Bench {
    base: HashMap<StreamKey, StreamState>,
    stage: Stage,
    incarnations: Incarnations,
}

impl Bench {
    fn new() -> Self {
        let incarnations = Incarnations::new(Some(1), 0);
        Self { base: HashMap::new(), stage: Stage::default(), incarnations }
    }

    fn stage(&mut self, parts: impl Into<Vec<Part>>) -> Result<Verdict, AppendError> {
        let batch = Batch { parts: parts.into() };
        let Self { base, stage, incarnations } = self;
        stage.batch(base, &batch, Timestamp::from_millis(1), incarnations)
    }

    fn adopt(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (key, staged) in self.stage.drain() {
            changes.push(staged.change(&key));
            let before = self.base.remove(&key);
            self.base.extend(staged.adopt(before).map(|state| (key, state)));
        }
        changes.sort_by(|one, other| one.stream.cmp(&other.stream));
        changes
    }

    fn next(&self, id: &str) -> Option<u64> {
        self.base.get(&key(id)).map(|state| state.info.tail.next.0)
    }
}

#[test]
fn batches_of_one_commit_see_the_ones_before() {
    let mut bench = Bench::new();
    bench.stage([create("a", 2)]).expect("allowed");
    let Ok(Verdict::Apply(effects)) = bench.stage([append("a", 1)]) else { panic!("refused") };
    assert_eq!((effects[0].result.first_seq, effects[0].created), (Seq(3), false));
    let claimed = || [claiming(append("a", 1), 0)];
    bench.stage(claimed()).expect("allowed");
    let Ok(Verdict::Duplicate(parts)) = bench.stage(claimed()) else { panic!("no duplicate") };
    assert_eq!((parts[0].first_seq, parts[0].last_seq), (Seq(4), Seq(4)));
    assert_eq!(bench.next("a"), None);
    assert_eq!(bench.adopt().len(), 1);
    assert_eq!(bench.next("a"), Some(5));
}

#[test]
fn a_dropped_commit_leaves_no_trace() {
    let mut bench = Bench::new();
    bench.stage([create("a", 1)]).expect("allowed");
    bench.adopt();
    let before = bench.base.clone();
    bench.stage([claiming(append("a", 1), 0), create("b", 1)]).expect("allowed");
    bench.stage([Part { stream: key("a"), op: Op::Delete, epoch: Epoch(3) }]).expect("allowed");
    bench.stage.clear();
    assert!(bench.adopt().is_empty());
    assert_eq!(bench.base, before);
    bench.stage([claiming(append("a", 1), 0), create("b", 1)]).expect("allowed");
}

#[test]
fn a_refused_batch_keeps_those_before_it_in_the_commit() {
    let mut bench = Bench::new();
    bench.stage([create("a", 1), create("b", 1)]).expect("allowed");
    let delete = Part { stream: key("b"), op: Op::Delete, epoch: Epoch(0) };
    let bad = [claiming(append("a", 1), 0), delete, create("b", 7), create("c", 1), append("d", 1)];
    assert_eq!(bench.stage(bad), Err(AppendError::NotFound(key("d"))));
    bench.stage([claiming(append("a", 1), 0)]).expect("allowed");
    let changes = bench.adopt();
    let names: Vec<_> = changes.iter().map(|change| change.stream.id()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!((bench.next("a"), bench.next("b"), bench.next("c")), (Some(3), Some(2), None));
    assert!(changes.iter().all(|change| !change.erased));
}

#[test]
fn streams_that_were_only_looked_at_do_not_change() {
    let mut bench = Bench::new();
    bench.stage([create("a", 1)]).expect("allowed");
    bench.stage([claiming(append("a", 1), 0)]).expect("allowed");
    bench.adopt();
    assert!(bench.stage([append("b", 1)]).is_err());
    assert!(matches!(bench.stage([claiming(append("a", 1), 0)]), Ok(Verdict::Duplicate(_))));
    assert!(bench.adopt().is_empty());
}

#[test]
fn adopting_keeps_the_producers_that_were_not_looked_at() {
    let mut bench = Bench::new();
    bench.stage([create("a", 1)]).expect("allowed");
    bench.stage([claiming(append("a", 1), 0)]).expect("allowed");
    bench.adopt();
    bench.stage([append("a", 1)]).expect("allowed");
    bench.adopt();
    let again = bench.stage([claiming(append("a", 1), 0)]);
    assert!(matches!(again, Ok(Verdict::Duplicate(_))));
    bench.stage.clear();
    let delete = Part { stream: key("a"), op: Op::Delete, epoch: Epoch(0) };
    bench.stage([delete, create("a", 1)]).expect("allowed");
    let changes = bench.adopt();
    assert!(changes[0].erased && changes[0].info.is_some());
    assert!(bench.base[&key("a")].producers.is_empty());
}

#[test]
fn incarnations_are_distinct_and_depend_on_seed_and_salt() {
    let row = |seed, salt| {
        let mut incarnations = Incarnations::new(seed, salt);
        (0..1_000).map(|_| incarnations.next()).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(row(Some(1), 0), row(Some(1), 0));
    for other in [row(Some(2), 0), row(Some(1), 5), row(None, 0)] {
        assert_eq!(other.len(), 1_000);
        assert!(row(Some(1), 0).is_disjoint(&other));
    }
    assert!(row(None, 0).is_disjoint(&row(None, 0)));
}
