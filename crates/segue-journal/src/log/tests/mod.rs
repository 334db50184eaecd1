mod backup;
mod codec;
mod conformance;
mod crash;
mod damage;
mod full;
mod levels;
mod open;
mod packing;
mod sealing;
mod threads;

use std::{
    future::Future,
    path::Path,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use segue_core::Seq;

use super::{Durability, Log, LogOptions, OpenError, Step, Writer, layout::segment_path};
use crate::{
    api::{
        AppendError, Batch, Committed, Journal, Op, Part, ReadError, ReadLimit, ReserveError,
        Ticket,
    },
    conformance::ManualClock,
    disk::{Disk, FaultyDisk},
    stream::{Epoch, StreamKey},
};

/// Small, so that a few appends fill segments.
const SEGMENT: u64 = 4 << 10;

/// A log that the test drives, on a disk that the test breaks.
struct Driven {
    log: Arc<Log>,
    writer: Mutex<Writer>,
    fatal: Arc<Mutex<Vec<String>>>,
}

fn options(disk: Arc<dyn Disk>) -> LogOptions {
    let clock = Arc::new(ManualClock::new(1_000));
    let mut options = LogOptions::new("/data/segue".into(), clock, Arc::new(|_| {}));
    options.disk = disk;
    options.segment_bytes = SEGMENT;
    options.reserve_bytes = 512;
    options.seed = Some(7);
    options
}

impl Driven {
    fn open(disk: &FaultyDisk) -> Self {
        Self::with(options(Arc::new(disk.clone()))).expect("an open log")
    }

    fn with(mut options: LogOptions) -> Result<Self, OpenError> {
        let fatal = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&fatal);
        options.fatal = Arc::new(move |why| told.lock().expect("lock").push(why.to_owned()));
        let (log, writer) = Log::open_manual(options)?;
        Ok(Self { log, writer: Mutex::new(writer), fatal })
    }

    fn submit(&self, parts: Vec<Part>) -> Ticket {
        self.try_submit(parts).expect("an open door")
    }

    fn try_submit(&self, parts: Vec<Part>) -> Result<Ticket, ReserveError> {
        let bytes = parts.iter().map(Part::bytes).sum();
        let mut reserve = pin!(self.log.reserve(&parts[0].stream, bytes));
        match reserve.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(reserved) => {
                reserved.map(|permit| self.log.submit(permit, Batch { parts }))
            }
            Poll::Pending => panic!("the door is shut"),
        }
    }

    /// Lets the writer and the keeper do all they can.
    fn settle(&self) {
        let mut writer = self.writer.lock().expect("lock");
        while writer.step() == Step::Worked || self.log.step_keeper() == Step::Worked {}
    }

    /// Only the writer.
    fn commit(&self, parts: Vec<Part>) -> Result<Committed, AppendError> {
        let ticket = self.try_submit(parts);
        while self.writer.lock().expect("lock").step() == Step::Worked {}
        ticket.map_err(|error| AppendError::Poisoned(error.to_string()))?.wait()
    }

    fn create(&self, stream: &StreamKey) {
        let part = Part::create(stream.clone(), Epoch(0), Vec::new());
        self.commit(vec![part]).expect("created");
    }

    fn append(&self, stream: &StreamKey, text: &str) -> u64 {
        let committed = self.commit(vec![append(stream, text)]).expect("appended");
        committed.parts[0].first_seq.0
    }

    fn read(&self, stream: &StreamKey) -> Result<Vec<String>, ReadError> {
        let mut texts = Vec::new();
        let mut from = self.log.info(stream)?.available_from;
        loop {
            let page = self.log.read(stream, from, ReadLimit::default())?;
            let Some(last) = page.records.last() else { return Ok(texts) };
            from = last.seq.next();
            let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
            texts.extend(page.records.iter().map(|record| text(&record.bytes)));
        }
    }

    fn next(&self, stream: &StreamKey) -> Seq {
        self.log.info(stream).expect("a known stream").tail.next
    }
}

fn run(id: &str) -> StreamKey {
    StreamKey::parse(&format!("default/r/{id}")).expect("a key")
}

fn session(id: &str) -> StreamKey {
    StreamKey::parse(&format!("default/s/{id}")).expect("a key")
}

fn append(stream: &StreamKey, text: &str) -> Part {
    Part::append(stream.clone(), Epoch(0), vec![Bytes::copy_from_slice(text.as_bytes())])
}

fn closing(stream: &StreamKey, text: &str) -> Part {
    let mut part = append(stream, text);
    if let Op::Append { close, .. } = &mut part.op {
        *close = true;
    }
    part
}

fn segment(number: u64) -> std::path::PathBuf {
    segment_path(Path::new("/data/segue/journal"), number)
}

/// `SplitMix64`: seeded choices, the seed printed by who makes it.
struct Random(AtomicU64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    fn below(&self, n: u64) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}
