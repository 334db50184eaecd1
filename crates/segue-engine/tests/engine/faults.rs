//! Journals that refuse what a run needs.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use segue_core::{Inbound, Policy, RunStatus};
use segue_engine::StartRun;
use segue_journal::{
    Journal, Log, LogOptions,
    disk::{Disk, FaultyDisk},
};
use serde_json::json;

use super::support::*;

const FOLDER: &str = "/data/journal";

/// The embedded log with these segments, on a disk that can be broken.
fn on_disk(segment_bytes: u64) -> (Arc<dyn Journal>, FaultyDisk) {
    let disk = FaultyDisk::new(7);
    (open_log(&disk, segment_bytes), disk)
}

/// Opens the embedded log that is on this disk.
pub fn open_log(disk: &FaultyDisk, segment_bytes: u64) -> Arc<dyn Journal> {
    let log = Log::open(LogOptions {
        disk: Arc::new(disk.clone()),
        segment_bytes,
        reserve_bytes: segment_bytes / 8,
        ..LogOptions::new("/data".into(), Arc::new(TickingClock::default()), Arc::new(|_| {}))
    });
    log.unwrap()
}

#[tokio::test]
async fn e13_a_run_that_cannot_be_stored_ends_failed_and_its_source_is_released() {
    let (journal, disk) = on_disk(256 << 10);
    let stage = Stage::over(journal, Puppet::new(true)).await;
    let (run, strings) = stage.play("s").await;
    disk.set_free(Some(0));
    while !*strings.released.borrow() {
        strings.try_pull(Pull::Give(Inbound::Event(text(&"x".repeat(3000)))));
        tokio::task::yield_now().await;
    }
    let events = stage.follow(&run.id).await;
    check_whole(&events);
    let last = events.last().unwrap();
    assert_eq!((&last["type"], &last["error"]["code"]), (&json!("run.failed"), &json!("journal")));
    assert_eq!(*stage.puppet.starts.borrow(), 1, "what it did is not done again");
    assert_eq!(stage.status(&run.id).await, "failed");
}

#[tokio::test]
async fn k14_a_replacement_that_finds_a_full_disk_leaves_the_old_run() {
    let (journal, disk) = on_disk(64 << 10);
    let stage = Stage::over(journal, Puppet::new(true)).await;
    stage.start_named("s", "old", Policy::Reject).await.unwrap();
    disk.set_free(Some(0));
    let mut refused = 0;
    for n in 0..200 {
        let request = StartRun {
            session: Some(session_id(if refused == 0 { "filler" } else { "s" })),
            run: Some(run_id(&format!("new{n}"))),
            policy: if refused == 0 { Policy::Parallel } else { Policy::Replace },
            input: json!("x".repeat(3000)),
            ..StartRun::of(agent("puppet"))
        };
        refused += usize::from(stage.engine.start(tenant(), request).await.is_err());
    }
    assert!(refused > 100, "{refused}");
    assert_eq!(stage.status(&run_id("old")).await, "running");
    stage.puppet.strings(&run_id("old")).await.finish().await;
    assert_eq!(stage.follow(&run_id("old")).await.last().unwrap()["type"], "run.finished");
}

/// Damages what each sealed segment's index says of the stream of this key; gives how many did.
fn damage_indexes(disk: &FaultyDisk, key: &[u8]) -> usize {
    let mut damaged = 0;
    for name in disk.list(Path::new(FOLDER)).unwrap() {
        let path: PathBuf = Path::new(FOLDER).join(name);
        let image = disk.live(&path);
        let Some(trailer) = image.len().checked_sub(96).map(|at| &image[at..]) else { continue };
        if !trailer.starts_with(b"SEGUEEND") {
            continue;
        }
        let number =
            |at: usize| u32::from_le_bytes(trailer[at..at + 4].try_into().unwrap()) as usize;
        let text = &image[number(56)..number(56) + number(60)];
        if let Some(at) = text.windows(key.len()).position(|window| window == key) {
            disk.damage(&path, number(56) + at + key.len() - 1, b"X");
            damaged += 1;
        }
    }
    damaged
}

#[tokio::test]
async fn a_run_whose_session_cannot_be_read_ends_without_it() {
    let (journal, disk) = on_disk(16 << 10);
    let stage = Stage::over(journal, Puppet::new(true)).await;
    let (run, strings) = stage.play("lost").await;
    let filler = stage.push("filler").await;
    while damage_indexes(&disk, b"default/s/lost") == 0 {
        strings.give(text("x")).await;
        for _ in 0..20 {
            stage.append(&filler.id, &"x".repeat(1000)).await;
        }
    }
    strings.finish().await;
    let events = stage.follow(&run.id).await;
    check_whole(&events);
    assert_eq!(events.last().unwrap()["type"], "run.finished");
    assert_eq!(stage.engine.status(tenant(), &run.id).unwrap(), RunStatus::Finished);
    assert_eq!(stage.status(&run.id).await, "finished", "its own stream says so");
}
