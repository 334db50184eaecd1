//! What packing costs: many finished runs, a start over them, and the commits beside it.
//!
//! Makes RUNS (100,000) finished runs of ten records and keeps 256 MiB of segments or what `HOT_MIB`
//! says, closes, and prints how long opening takes. Then 100 tasks append in a closed loop, first
//! with a hot tier that never fills and then with one that always does, and print p50 and p99.
//! `cargo run --release -p segue-journal --example packed [RUNS] [HOT_MIB]`
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time on its own threads")]

use std::{
    error::Error,
    fs,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use segue_core::{Clock, RunId, Seq, TenantId, Timestamp};
use segue_journal::{Batch, Epoch, Journal, Log, LogOptions, Op, Part, ReadLimit, StreamKey};
use tokio::runtime::Runtime;

const BATCH: u64 = 100;
const TASKS: usize = 100;
const LOOKUPS: u32 = 10_000;
const ROUND: Duration = Duration::from_secs(8);

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let millis = since.map_or(0, |since| since.as_millis());
        Timestamp::from_millis(u64::try_from(millis).unwrap_or(0))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let mut number = |default| args.next().map_or(Ok(default), |text| text.parse::<u64>());
    let (runs, hot_mib) = (number(100_000)?, number(256)?);
    let dir = tempfile::tempdir()?;
    let runtime = Runtime::new()?;
    let options = options(&dir.path().join("start"), hot_mib);
    let log = Log::open(options.clone())?;
    let begun = Instant::now();
    for n in (0..runs).step_by(usize::try_from(BATCH)?) {
        let parts = (n..runs.min(n + BATCH)).map(finished).collect();
        runtime.block_on(commit(&log, parts));
    }
    println!("{runs} runs made in {:.1?}", begun.elapsed());
    settle(&options.dir.join("journal"))?;
    println!("packed after {:.1?}", begun.elapsed());
    log.close();
    drop(log);
    println!(
        "journal {} KiB, cold {} KiB",
        size(&options.dir.join("journal"))?,
        size(&options.dir)?
    );
    for _ in 0..3 {
        let begun = Instant::now();
        let log = Log::open(options.clone())?;
        let opened = begun.elapsed();
        let page = log.read(&key(0), Seq(1), ReadLimit::default())?;
        let begun = Instant::now();
        let found = (1..=LOOKUPS).filter(|n| log.info(&key(u64::from(*n) << 32)).is_ok()).count();
        let each = begun.elapsed() / LOOKUPS;
        println!(
            "opened in {opened:.1?}; the first run has {} records; {found} of {LOOKUPS} unknown runs \
             found, {each:.1?} each",
            page.records.len()
        );
        log.close();
    }
    for (n, hot_mib) in [1 << 20, 64, 1 << 20, 64].into_iter().enumerate() {
        let options = self::options(&dir.path().join(format!("commits{n}")), hot_mib);
        let log = Log::open(LogOptions { segment_bytes: 16 << 20, ..options })?;
        println!("hot {hot_mib} MiB: {}", round(&runtime, &log));
        log.close();
    }
    Ok(())
}

fn options(dir: &Path, hot_mib: u64) -> LogOptions {
    let fatal = Arc::new(|why: &str| panic!("the log failed: {why}"));
    let options = LogOptions::new(dir.to_owned(), Arc::new(SystemClock), fatal);
    LogOptions { hot_bytes: hot_mib << 20, ..options }
}

fn key(n: u64) -> StreamKey {
    let id = RunId::parse(&format!("run-{n:012}")).expect("a well-formed id");
    StreamKey::run(&TenantId::local(), &id)
}

/// About 1.4 KB in ten records, of which no two are alike.
fn finished(n: u64) -> Part {
    let record =
        |m| Bytes::from(format!("{{\"n\":{n},\"m\":{m},\"text\":\"{:0110}\"}}", n * 7919 + m));
    let records = (0..10).map(record).collect();
    let op = Op::Append { records, create: true, close: true, expect: None, producer: None };
    Part { stream: key(n), op, epoch: Epoch(0) }
}

async fn commit(log: &Log, parts: Vec<Part>) {
    let bytes = parts.iter().map(Part::bytes).sum();
    let permit = log.reserve(&parts[0].stream, bytes).await.expect("an open door");
    log.submit(permit, Batch { parts }).await.expect("committed");
}

/// Waits until the segments have not become fewer for two seconds.
fn settle(dir: &Path) -> Result<(), Box<dyn Error>> {
    let (mut left, mut still) = (u64::MAX, 0);
    while still < 20 {
        thread::sleep(Duration::from_millis(100));
        let now = size(dir)?;
        still = if now < left { 0 } else { still + 1 };
        left = now;
    }
    Ok(())
}

/// KiB of the files in a folder.
fn size(dir: &Path) -> Result<u64, Box<dyn Error>> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let metadata = entry?.metadata()?;
        bytes += if metadata.is_file() { metadata.len() } else { 0 };
    }
    Ok(bytes >> 10)
}

/// Each task starts a run, appends to it a few hundred times and ends it, and the next one.
fn round(runtime: &Runtime, log: &Arc<Log>) -> String {
    let end = Instant::now() + ROUND;
    let spawn = |task| runtime.spawn(appends(Arc::clone(log), task << 32, end));
    let tasks: Vec<_> = (0..TASKS as u64).map(spawn).collect();
    let times = tasks.into_iter().map(|task| runtime.block_on(task).expect("no panic"));
    let mut times = times.collect::<Vec<_>>().concat();
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 1_000];
    let per_second = times.len() as u64 / ROUND.as_secs();
    format!(
        "{per_second} commits/s, p50 {:.1?}, p99 {:.1?}, p99.9 {:.1?}",
        at(500),
        at(990),
        at(999)
    )
}

async fn appends(log: Arc<Log>, first: u64, end: Instant) -> Vec<Duration> {
    let mut times = Vec::new();
    for n in first.. {
        for m in 0..300 {
            let begun = Instant::now();
            if begun >= end {
                return times;
            }
            let records = vec![Bytes::from(format!(
                "{m}:{:0300}",
                begun.elapsed().as_nanos() + u128::from(n)
            ))];
            let op = Op::Append {
                records,
                create: m == 0,
                close: m == 299,
                expect: None,
                producer: None,
            };
            commit(&log, vec![Part { stream: key(n), op, epoch: Epoch(0) }]).await;
            times.push(begun.elapsed());
        }
    }
    times
}
