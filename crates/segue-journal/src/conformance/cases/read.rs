//! Reads, and what makes records unreadable.

use segue_core::Seq;

use crate::{
    Part,
    api::{Page, ReadError, ReadLimit, Tail},
    conformance::{
        Fixture,
        support::{key, part, run},
    },
    stream::StreamKey,
};

fn page(fixture: &dyn Fixture, stream: &StreamKey, from: u64, limit: ReadLimit) -> Page {
    fixture.journal().read(stream, Seq(from), limit).expect("a readable range")
}

fn seqs(page: &Page) -> Vec<u64> {
    page.records.iter().map(|record| record.seq.0).collect()
}

/// The first record is the one asked for; both limits hold, but one record always comes.
pub fn i02_reads_begin_at_from_and_end_at_the_limit(fixture: &mut dyn Fixture) {
    let stream = run("a");
    fixture.create(&stream, &["1234", "1234"]);
    fixture.append(part(&stream, &["1234", "1234", "1234"]));
    let limit = |bytes, records| ReadLimit { bytes, records };
    for _ in 0..2 {
        let got = |from, limit| seqs(&page(fixture, &stream, from, limit));
        assert_eq!(got(1, limit(usize::MAX, usize::MAX)), [1, 2, 3, 4, 5]);
        assert_eq!(got(0, limit(usize::MAX, 1)), [1]);
        assert_eq!(got(2, limit(usize::MAX, 2)), [2, 3]);
        assert_eq!(got(2, limit(8, usize::MAX)), [2, 3]);
        assert_eq!(got(2, limit(11, usize::MAX)), [2, 3]);
        assert_eq!(got(4, limit(12, usize::MAX)), [4, 5]);
        assert_eq!(got(3, limit(0, 0)), [3]);
        fixture.reopen();
    }
}

/// A page is empty at and beyond the tail, and nowhere else; it tells the tail it was read at.
pub fn a_page_is_empty_exactly_at_the_tail(fixture: &mut dyn Fixture) {
    let stream = run("a");
    fixture.create(&stream, &["1", "2"]);
    for (from, count) in [(1, 2), (2, 1), (3, 0), (4, 0), (u64::MAX, 0)] {
        let page = page(fixture, &stream, from, ReadLimit::default());
        assert_eq!(page.records.len(), count, "from {from}");
        assert_eq!(page.info.tail, Tail { next: Seq(3), closed: false });
    }
    let unknown = fixture.journal().read(&run("b"), Seq(1), ReadLimit::default());
    assert_eq!(unknown, Err(ReadError::NotFound(run("b"))));
}

/// A trimmed range answers where the readable one begins; trims never go back nor past the tail.
pub fn a_trimmed_range_is_named(fixture: &mut dyn Fixture) {
    let stream = run("a");
    fixture.create(&stream, &["1", "2", "3", "4"]);
    let trim = |before| fixture.commit([Part::trim(&stream, before)]).expect("an allowed trim");
    trim(3);
    trim(2);
    for _ in 0..2 {
        for from in [0, 1, 2] {
            let read = fixture.journal().read(&stream, Seq(from), ReadLimit::default());
            assert_eq!(read, Err(ReadError::Trimmed { available_from: Seq(3) }));
        }
        assert_eq!(fixture.contents(&stream), ["3", "4"]);
        fixture.reopen();
    }
    fixture.commit([Part::trim(&stream, 99)]).expect("an allowed trim");
    fixture.append(part(&stream, &[]).closing());
    fixture.commit([Part::trim(&stream, 99)]).expect("an allowed trim of a closed stream");
    let info = fixture.journal().info(&stream).expect("a known stream");
    assert_eq!((info.available_from, info.tail.next), (Seq(5), Seq(5)));
    let read = fixture.journal().read(&stream, Seq(4), ReadLimit::default());
    assert_eq!(read, Err(ReadError::Trimmed { available_from: Seq(5) }));
    assert!(page(fixture, &stream, 5, ReadLimit::default()).records.is_empty());
}

/// A deleted stream is unknown, others are untouched; the name can be used anew, from 1 and with
/// another incarnation.
pub fn a_deleted_stream_is_unknown_and_its_name_free(fixture: &mut dyn Fixture) {
    let (a, b) = (run("a"), run("b"));
    fixture.append(part(&a, &["1", "2"]).creating().at_epoch(3).claiming("p", 0, 0, 1).closing());
    fixture.create(&b, &["b"]);
    let old = fixture.journal().info(&a).expect("a known stream").incarnation;
    fixture.commit([Part::delete(&a).at_epoch(3)]).expect("an allowed deletion");
    for _ in 0..2 {
        let journal = fixture.journal();
        let unknown = ReadError::NotFound(a.clone());
        assert!(fixture.is_unknown(&a));
        assert_eq!(journal.read(&a, Seq(1), ReadLimit::default()), Err(unknown.clone()));
        assert_eq!(journal.producers(&a), Err(unknown.clone()));
        assert_eq!(journal.listen(&a, &journal.doorbell().shard()).err(), Some(unknown));
        assert_eq!(fixture.contents(&b), ["b"]);
        fixture.reopen();
    }
    assert_eq!(fixture.append(part(&a, &["new"]).creating().claiming("p", 0, 0, 0)), (1, 1));
    fixture.reopen();
    assert_eq!(fixture.contents(&a), ["new"]);
    assert_ne!(fixture.journal().info(&a).expect("a known stream").incarnation, old);
}

/// A restart changes nothing that can be asked.
pub fn reopening_keeps_every_stream(fixture: &mut dyn Fixture) {
    let streams = [run("a"), key("s", "a"), key("c", "sessions"), key("w", "a")];
    for (index, stream) in streams.iter().enumerate() {
        let text = format!("{stream}");
        fixture.append(part(stream, &[&text, "2"]).creating().at_epoch(index as u64));
    }
    fixture.append(part(&streams[0], &["3"]).closing());
    let journal = fixture.journal();
    let infos = streams.each_ref().map(|stream| journal.info(stream));
    let records = streams.each_ref().map(|stream| fixture.read_all(stream));
    let position = journal.position();
    drop(journal);
    for _ in 0..2 {
        fixture.reopen();
        let journal = fixture.journal();
        assert_eq!(streams.each_ref().map(|stream| journal.info(stream)), infos);
        assert_eq!(streams.each_ref().map(|stream| fixture.read_all(stream)), records);
        assert!(journal.position() >= position);
    }
    assert_eq!(fixture.append(part(&streams[1], &["3"]).at_epoch(1)), (3, 3));
}
