//! The log beside a raw one: 1,000 tasks append 120 bytes each, closed loop, in turn to the log
//! and to a bare group commit (gather, one write, one sync). Prints each round and the ratios of
//! the medians. `cargo run --release -p segue-journal --example raw_log [FOLDER]`
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time on its own tasks")]

use std::{
    error::Error,
    fs::{File, OpenOptions},
    future::Future,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use segue_core::{Clock, RunId, Seq, TenantId, Timestamp};
use segue_journal::{Batch, Epoch, Journal, Log, LogOptions, Part, ReadLimit, StreamKey};
use tokio::sync::oneshot;

const TASKS: usize = 1_000;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);
const RECORD: [u8; 120] = [b'x'; 120];
const REPLAYED: u64 = 100_000;

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let millis = since.map_or(0, |since| since.as_millis());
        Timestamp::from_millis(u64::try_from(millis).unwrap_or(0))
    }
}

struct Round {
    per_second: f64,
    p50: Duration,
    p99: Duration,
}

fn main() -> Result<(), Box<dyn Error>> {
    let root = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(root)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let fatal = Arc::new(|why: &str| panic!("the log failed: {why}"));
    let options = LogOptions::new(dir.path().join("data"), Arc::new(SystemClock), fatal);
    let log = Log::open(options.clone())?;
    let raw = RawLog::start(&dir.path().join("raw"))?;
    let keys = create_runs(&log, TASKS);
    let (mut raws, mut logs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (queue, record) = (raw.clone(), Bytes::from_static(&RECORD));
        raws.push(runtime.block_on(round(move |_| append_raw(queue.clone(), record.clone()))));
        let (log, keys) = (log.clone(), keys.clone());
        logs.push(runtime.block_on(round(move |n| append(log.clone(), keys[n].clone()))));
        println!("raw {}   log {}", show(raws.last()), show(logs.last()));
    }
    let (raw_median, log_median) = (median(&raws), median(&logs));
    println!("throughput {:.2}x of raw, median", log_median / raw_median);
    for round in &logs {
        println!("p99 {:.1}x of p50", round.p99.as_secs_f64() / round.p50.as_secs_f64());
    }
    replay(&log, &runtime)?;
    log.close();
    let begun = Instant::now();
    let log = Log::open(options)?;
    println!("opened again with {} commits in {:?}", log.position().0, begun.elapsed());
    Ok(())
}

fn show(round: Option<&Round>) -> String {
    round.map_or_else(String::new, |round| {
        format!("{:>9.0}/s p50 {:?} p99 {:?}", round.per_second, round.p50, round.p99)
    })
}

fn median(rounds: &[Round]) -> f64 {
    let mut all: Vec<f64> = rounds.iter().map(|round| round.per_second).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// Every task appends, waits for its ack, and appends again.
async fn round<F>(append: impl Fn(usize) -> F + Clone + Send + 'static) -> Round
where
    F: Future<Output = ()> + Send + 'static,
{
    let begun = Instant::now();
    let tasks: Vec<_> = (0..TASKS)
        .map(|n| {
            let append = append.clone();
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                while begun.elapsed() < ROUND {
                    let sent = Instant::now();
                    append(n).await;
                    latencies.push(sent.elapsed());
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.unwrap_or_default());
    }
    let elapsed = begun.elapsed();
    latencies.sort_unstable();
    let at = |percent: usize| latencies[latencies.len() * percent / 100];
    #[expect(clippy::cast_precision_loss, reason = "a rate to be printed")]
    let per_second = latencies.len() as f64 / elapsed.as_secs_f64();
    Round { per_second, p50: at(50), p99: at(99) }
}

fn create_runs(log: &Log, n: usize) -> Arc<Vec<StreamKey>> {
    let tenant = TenantId::local();
    let id = |n| RunId::parse(&format!("0192f3c4-5b6a-7c8d-9e0f-{n:012}"));
    let keys: Vec<_> = (0..n).filter_map(|n| Some(StreamKey::run(&tenant, &id(n).ok()?))).collect();
    for key in &keys {
        let part = Part::create(key.clone(), Epoch(0), Vec::new());
        with_room(log.reserve(key, 0), |permit| {
            log.submit(permit, Batch { parts: vec![part] }).wait()
        });
    }
    Arc::new(keys)
}

fn with_room<T>(
    reserve: segue_journal::Reserve<'_>,
    submit: impl FnOnce(segue_journal::Permit) -> T,
) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().ok()?;
    let permit = runtime.block_on(reserve).ok()?;
    Some(submit(permit))
}

async fn append(log: Arc<Log>, key: StreamKey) {
    let permit = log.reserve(&key, RECORD.len()).await.expect("an open log");
    let part = Part::append(key, Epoch(0), vec![Bytes::from_static(&RECORD)]);
    log.submit(permit, Batch { parts: vec![part] }).await.expect("an allowed append");
}

type Waiting = (Bytes, oneshot::Sender<()>);

/// The least that a durable log does.
#[derive(Default)]
struct RawLog {
    queue: Mutex<Vec<Waiting>>,
    filled: Condvar,
}

impl RawLog {
    fn start(path: &Path) -> Result<Arc<Self>, Box<dyn Error>> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 4 << 30)?;
        let raw = Arc::new(Self::default());
        let writer = raw.clone();
        thread::spawn(move || writer.run(&file));
        Ok(raw)
    }

    fn run(&self, file: &File) {
        let (mut taken, mut bytes, mut at) = (Vec::new(), Vec::new(), 0);
        loop {
            let mut queue = self.queue.lock().expect("no panic");
            while queue.is_empty() {
                queue = self.filled.wait(queue).expect("no panic");
            }
            std::mem::swap(&mut *queue, &mut taken);
            drop(queue);
            bytes.clear();
            for (record, _) in &taken {
                bytes.extend_from_slice(record);
            }
            file.write_all_at(&bytes, at).expect("room on the disk");
            file.sync_data().expect("a working disk");
            at = (at + bytes.len() as u64) % (3 << 30);
            for (_, done) in taken.drain(..) {
                done.send(()).unwrap_or(());
            }
        }
    }
}

async fn append_raw(raw: Arc<RawLog>, record: Bytes) {
    let (done, acked) = oneshot::channel();
    raw.queue.lock().expect("no panic").push((record, done));
    raw.filled.notify_one();
    acked.await.expect("a running writer");
}

/// Appends a run one record per commit, between others, and reads it back.
fn replay(log: &Arc<Log>, runtime: &tokio::runtime::Runtime) -> Result<(), Box<dyn Error>> {
    let keys = create_runs(log, TASKS + 1);
    let key = keys[TASKS].clone();
    runtime.block_on(async {
        let mut tickets = Vec::new();
        for n in 0..REPLAYED {
            for key in [&key, &keys[usize::try_from(n).unwrap_or(0) % TASKS]] {
                let permit = log.reserve(key, RECORD.len()).await.expect("an open log");
                let record = vec![Bytes::from_static(&RECORD)];
                let part = Part::append(key.clone(), Epoch(0), record);
                tickets.push(log.submit(permit, Batch { parts: vec![part] }));
            }
        }
        for ticket in tickets {
            ticket.await.expect("an allowed append");
        }
    });
    for _ in 0..3 {
        let begun = Instant::now();
        let (mut from, mut first) = (Seq::FIRST, None);
        loop {
            let page = log.read(&key, from, ReadLimit::default())?;
            first.get_or_insert(begun.elapsed());
            let Some(last) = page.records.last() else { break };
            from = last.seq.next();
        }
        println!(
            "replay of {} records: first page {first:?}, all {:?}",
            from.0 - 1,
            begun.elapsed()
        );
    }
    Ok(())
}
