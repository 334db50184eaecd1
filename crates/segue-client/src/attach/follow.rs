//! The discipline of a cursor: each event once, in order, and no hole that was not told.
//!
//! Pure: frames in, steps out.

use std::borrow::Cow;

use bytes::Bytes;
use segue_core::{Cursor, EventKind, RunId, Seq, Timestamp};
use serde::Deserialize;

use super::{Attached, Gap, RunEvent, Snapshot};
use crate::sse::Frame;

/// Why a frame cannot follow the ones before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    /// Its id is no cursor of the run.
    #[error("the id {0:?} is no cursor of the run")]
    ForeignId(String),
    /// An event without an id.
    #[error("the event {0:?} has no id")]
    NoId(String),
    /// Its seq is not the next, and no gap was told.
    #[error("after event {after} came {seq}")]
    Hole { after: Seq, seq: Seq },
    /// Its data is no event.
    #[error("the data of event {seq} cannot be read: {why}")]
    Unreadable { seq: Seq, why: String },
}

/// What a frame means to the one who follows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Something to show.
    Item(Attached),
    /// An event that was shown before.
    Duplicate,
    /// Nothing to show: the position was confirmed or moved.
    Quiet,
}

/// Whose word the position is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// Nobody's: the server begins at the run's first event.
    Nothing,
    /// Nobody's: the server begins with a snapshot.
    Snapshot,
    /// The caller's. The server has not confirmed it.
    Caller,
    /// The server's own.
    Server,
}

/// How a request names the position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Beginning,
    /// With a snapshot, whose id becomes the cursor.
    Snapshot,
    /// As `after`: a cursor that the run does not have is an error.
    Explicit(Cursor),
    /// As `Last-Event-ID`: a cursor that the run no longer has is a gap.
    Resumed(Cursor),
}

/// Where a client stands in a run.
#[derive(Clone, Debug)]
pub(crate) struct Follow {
    run: RunId,
    /// The last position the client has, by its own events or by what the caller said.
    position: Seq,
    /// The highest seq that was yielded. It may be below `position`: a caller's cursor can be
    /// ahead of what the server has, and then a gap leads back.
    yielded: Seq,
    origin: Origin,
    /// A gap was told: the next position may be any that was not yielded.
    gap: bool,
}

impl Follow {
    pub(crate) fn new(run: RunId, after: Option<Seq>) -> Self {
        let position = after.unwrap_or(Seq::ZERO);
        let origin = if after.is_some() { Origin::Caller } else { Origin::Nothing };
        Self { run, position, yielded: Seq::ZERO, origin, gap: false }
    }

    /// Begins with a snapshot of the run.
    pub(crate) fn from_snapshot(run: RunId) -> Self {
        Self { origin: Origin::Snapshot, ..Self::new(run, None) }
    }

    /// Where a request begins.
    pub(crate) fn from(&self) -> From {
        let cursor = Cursor { run: self.run.clone(), seq: self.position };
        match self.origin {
            Origin::Nothing => From::Beginning,
            Origin::Snapshot => From::Snapshot,
            Origin::Caller => From::Explicit(cursor),
            Origin::Server => From::Resumed(cursor),
        }
    }

    pub(crate) fn run(&self) -> &RunId {
        &self.run
    }

    pub(crate) fn position(&self) -> Seq {
        self.position
    }

    /// A new connection begins: what an earlier one told of a gap is over.
    pub(crate) fn reconnect(&mut self) {
        self.gap = false;
    }

    /// Takes the next frame.
    pub(crate) fn take(&mut self, frame: Frame) -> Result<Step, Broken> {
        let seq = frame.id.as_deref().map(|id| self.seq_of(id)).transpose()?;
        let Some(json) = frame.data else {
            return seq.map_or(Ok(Step::Quiet), |seq| self.confirm(seq));
        };
        if frame.event.starts_with("control.") {
            return Ok(Step::Item(self.control(frame.event, seq, json)));
        }
        let seq = seq.ok_or(Broken::NoId(frame.event))?;
        if seq <= self.yielded || (seq <= self.position && !self.gap) {
            return Ok(Step::Duplicate);
        }
        if seq != self.position.next() && !self.gap {
            return Err(Broken::Hole { after: self.position, seq });
        }
        let event = read_event(&self.run, seq, json)?;
        self.move_to(seq);
        self.yielded = seq;
        Ok(Step::Item(Attached::Event(event)))
    }

    fn seq_of(&self, id: &str) -> Result<Seq, Broken> {
        match Cursor::parse(id) {
            Ok(cursor) if cursor.run == self.run => Ok(cursor.seq),
            _ => Err(Broken::ForeignId(id.to_owned())),
        }
    }

    /// A block that only says where the stream stands.
    fn confirm(&mut self, seq: Seq) -> Result<Step, Broken> {
        if seq > self.position && !self.gap {
            return Err(Broken::Hole { after: self.position, seq });
        }
        if seq == self.position || (self.gap && seq >= self.yielded) {
            self.move_to(seq);
        }
        Ok(Step::Quiet)
    }

    fn control(&mut self, name: String, seq: Option<Seq>, json: Bytes) -> Attached {
        if name == "control.gap" {
            self.gap = true;
            return Attached::Gap(Gap { after: self.position, json });
        }
        // A control frame with an id stands for all events up to it.
        // After a gap a snapshot stands for the run as it is, also where that is behind what the
        // client had: what it had beyond is not the run's any more.
        let leads_back = self.gap && name == "control.snapshot";
        if let Some(new) = seq.filter(|seq| leads_back || *seq >= self.yielded) {
            self.move_to(new);
            self.yielded = new;
        }
        match seq {
            Some(seq) if name == "control.snapshot" => Attached::Snapshot(Snapshot { seq, json }),
            _ => Attached::Control { name, json },
        }
    }

    fn move_to(&mut self, seq: Seq) {
        self.position = seq;
        self.origin = Origin::Server;
        self.gap = false;
    }
}

/// The part of an event that a client needs to know it.
#[derive(Deserialize)]
struct Envelope<'a> {
    seq: u64,
    at: Timestamp,
    #[serde(borrow)]
    run_id: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    name: Cow<'a, str>,
}

fn read_event(run: &RunId, seq: Seq, json: Bytes) -> Result<RunEvent, Broken> {
    let unreadable = |why: String| Broken::Unreadable { seq, why };
    let envelope: Envelope<'_> =
        serde_json::from_slice(&json).map_err(|error| unreadable(error.to_string()))?;
    if (Seq(envelope.seq), &*envelope.run_id) != (seq, run.as_str()) {
        return Err(unreadable("its envelope names another position".to_owned()));
    }
    let name = envelope.name.into_owned();
    Ok(RunEvent { seq, at: envelope.at, kind: EventKind::parse(&name), name, json })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run() -> RunId {
        RunId::parse("r").unwrap()
    }

    fn event(seq: u64) -> Frame {
        let json = format!(
            r#"{{"seq":{seq},"at":"2026-11-20T12:00:00.000Z","run_id":"r","type":"text.delta","part":"p","text":"x"}}"#
        );
        Frame { id: Some(format!("r:{seq}")), event: "text.delta".into(), data: Some(json.into()) }
    }

    fn id_only(seq: u64) -> Frame {
        Frame { id: Some(format!("r:{seq}")), ..Frame::default() }
    }

    fn control(name: &str) -> Frame {
        Frame { id: None, event: name.into(), data: Some(Bytes::from_static(b"{}")) }
    }

    fn at(after: u64) -> Follow {
        Follow::new(run(), Some(Seq(after)))
    }

    /// The seq of an event that is shown, or the step in words.
    fn step(follow: &mut Follow, frame: Frame) -> String {
        match follow.take(frame) {
            Ok(Step::Item(Attached::Event(event))) => event.seq.to_string(),
            Ok(Step::Item(Attached::Gap(_))) => "gap".into(),
            Ok(Step::Item(Attached::Snapshot(snapshot))) => format!("snapshot {}", snapshot.seq),
            Ok(Step::Item(_)) => "control".into(),
            Ok(Step::Duplicate) => "duplicate".into(),
            Ok(Step::Quiet) => "quiet".into(),
            Err(Broken::Hole { .. }) => "hole".into(),
            Err(_) => "broken".into(),
        }
    }

    fn check(mut follow: Follow, frames: Vec<(Frame, &str)>) -> Follow {
        for (index, (frame, expect)) in frames.into_iter().enumerate() {
            assert_eq!(step(&mut follow, frame), expect, "frame {index}");
        }
        follow
    }

    #[test]
    fn f05_the_first_frame_is_the_one_after_the_cursor() {
        let frames = vec![
            (id_only(4), "quiet"),
            (event(4), "duplicate"),
            (event(5), "5"),
            (event(5), "duplicate"),
            (event(6), "6"),
        ];
        let follow = check(at(4), frames);
        assert_eq!(follow.from(), From::Resumed(Cursor { run: run(), seq: Seq(6) }));
    }

    #[test]
    fn a_cursor_is_the_callers_until_the_server_confirms_it() {
        assert_eq!(Follow::new(run(), None).from(), From::Beginning);
        let cursor = || Cursor { run: run(), seq: Seq(4) };
        assert_eq!(at(4).from(), From::Explicit(cursor()));
        assert_eq!(check(at(4), vec![(id_only(4), "quiet")]).from(), From::Resumed(cursor()));
        let behind = check(at(4), vec![(id_only(3), "quiet")]);
        assert_eq!(behind.from(), From::Explicit(cursor()));
    }

    #[test]
    fn a_hole_is_never_passed_over() {
        check(at(4), vec![(event(6), "hole"), (id_only(5), "hole"), (event(5), "5")]);
        check(Follow::new(run(), None), vec![(event(2), "hole"), (event(1), "1")]);
    }

    #[test]
    fn a_gap_that_was_told_may_be_passed_over_once() {
        let frames = vec![(control("control.gap"), "gap"), (event(9), "9"), (event(11), "hole")];
        check(at(4), frames);
        let frames = vec![
            (control("control.gap"), "gap"),
            (id_only(8), "quiet"),
            (event(10), "hole"),
            (event(9), "9"),
        ];
        check(at(4), frames);
    }

    #[test]
    fn a_gap_leads_back_from_a_cursor_that_was_ahead() {
        let frames = vec![
            (control("control.gap"), "gap"),
            (event(1), "1"),
            (event(2), "2"),
            (event(1), "duplicate"),
        ];
        check(at(100), frames);
    }

    #[test]
    fn a_gap_never_shows_what_was_shown() {
        let frames = vec![
            (event(5), "5"),
            (control("control.gap"), "gap"),
            (event(4), "duplicate"),
            (event(5), "duplicate"),
            (event(7), "7"),
        ];
        check(at(4), frames);
    }

    #[test]
    fn a_gap_of_an_earlier_connection_is_over() {
        let mut follow = check(at(4), vec![(control("control.gap"), "gap")]);
        follow.reconnect();
        check(follow, vec![(event(9), "hole")]);
    }

    #[test]
    fn control_frames_are_never_events() {
        check(
            at(4),
            vec![
                (control("control.news"), "control"),
                (Frame { id: Some("r:7".into()), ..control("control.later") }, "control"),
                (event(7), "duplicate"),
                (event(8), "8"),
            ],
        );
    }

    fn snapshot(seq: u64) -> Frame {
        Frame { id: Some(format!("r:{seq}")), ..control("control.snapshot") }
    }

    #[test]
    fn a_snapshot_stands_for_all_events_up_to_it() {
        let follow = Follow::from_snapshot(run());
        assert_eq!(follow.from(), From::Snapshot);
        let frames = vec![
            (snapshot(7), "snapshot 7"),
            (event(7), "duplicate"),
            (event(9), "hole"),
            (event(8), "8"),
        ];
        let follow = check(follow, frames);
        assert_eq!(follow.from(), From::Resumed(Cursor { run: run(), seq: Seq(8) }));
    }

    #[test]
    fn h06_after_a_gap_a_snapshot_tells_what_happened_and_nothing_comes_twice() {
        let frames = vec![
            (event(5), "5"),
            (control("control.gap"), "gap"),
            (snapshot(40), "snapshot 40"),
            (event(5), "duplicate"),
            (event(40), "duplicate"),
            (event(42), "hole"),
            (event(41), "41"),
        ];
        check(at(4), frames);
        // Also behind what was shown: the run's end follows there.
        let frames = vec![
            (event(5), "5"),
            (control("control.gap"), "gap"),
            (snapshot(2), "snapshot 2"),
            (event(3), "3"),
            (event(3), "duplicate"),
        ];
        check(at(4), frames);
        // From a cursor that was ahead, the snapshot leads back.
        let frames =
            vec![(control("control.gap"), "gap"), (snapshot(7), "snapshot 7"), (event(8), "8")];
        check(at(100), frames);
    }

    #[test]
    fn h14_there_is_no_memory_of_ids_that_could_grow() {
        let mut follow = at(0);
        for seq in 1..=10_000 {
            assert_eq!(step(&mut follow, event(seq)), seq.to_string());
            assert_eq!(step(&mut follow, event(seq / 2 + 1)), "duplicate");
        }
        let Follow { run: _, position, yielded, origin: _, gap: _ } = follow;
        assert_eq!((position, yielded), (Seq(10_000), Seq(10_000)), "two numbers are all of it");
    }

    #[test]
    fn what_is_not_of_this_run_is_refused() {
        let mut foreign = event(5);
        foreign.id = Some("other:5".into());
        let mut unnamed = event(5);
        unnamed.id = None;
        let mut lying = event(6);
        lying.id = Some("r:5".into());
        let mut garbage = event(5);
        garbage.data = Some(Bytes::from_static(b"{"));
        for frame in [foreign, unnamed, lying, garbage] {
            let mut follow = at(4);
            assert_eq!(step(&mut follow, frame.clone()), "broken", "{frame:?}");
            assert_eq!(step(&mut follow, event(5)), "5", "the cursor did not move");
        }
    }

    proptest! {
        /// Whatever comes: what is shown rises, and by one unless a gap was shown before it.
        #[test]
        fn shown_once_in_order_without_a_silent_hole(
            after in 0u64..6,
            frames in prop::collection::vec((0u8..5, 0u64..12), 0..40),
        ) {
            let mut follow = at(after);
            let (mut last, mut told, mut shown) = (after, false, 0);
            for (kind, seq) in frames {
                let frame = match kind {
                    0 => control("control.gap"),
                    1 => id_only(seq),
                    2 => snapshot(seq),
                    _ => event(seq),
                };
                let in_gap = follow.gap;
                match follow.take(frame) {
                    Ok(Step::Item(Attached::Event(event))) => {
                        let seq = event.seq.0;
                        prop_assert!(seq > shown);
                        prop_assert!(seq == last + 1 || told, "{} after {}", seq, last);
                        (last, told, shown) = (seq, false, seq);
                    }
                    Ok(Step::Item(Attached::Gap(_))) => told = true,
                    Ok(Step::Item(Attached::Snapshot(snapshot)))
                        if in_gap || snapshot.seq.0 >= shown =>
                    {
                        (last, told, shown) = (snapshot.seq.0, false, snapshot.seq.0);
                    }
                    _ => {}
                }
            }
        }
    }
}
