//! The embedded log underneath, and what goes wrong with it.

use std::{path::Path, sync::Arc};

use segue_engine::SystemClock;
use segue_journal::{
    Log, LogOptions,
    disk::{Disk, FaultyDisk},
};
use serde_json::json;

use crate::append::disturb_each_other;
use crate::support::{Host, Setup, seqs, text, text_lines, texts};

/// A server whose journal is the embedded log on a disk that can be broken.
async fn on_disk() -> (Host, FaultyDisk) {
    let disk = FaultyDisk::new(7);
    let log = Log::open(LogOptions {
        disk: Arc::new(disk.clone()),
        segment_bytes: 1 << 20,
        reserve_bytes: 128 << 10,
        ..LogOptions::new("/data".into(), Arc::new(SystemClock), Arc::new(|_| {}))
    });
    let journal = log.expect("an empty disk opens");
    (Host::start(Setup { journal: Some(journal), ..Setup::default() }).await, disk)
}

#[tokio::test]
async fn the_embedded_log_serves_like_the_one_in_memory() {
    let (host, _disk) = on_disk().await;
    let run = host.run("push").await;
    let mut tab = host.attach(&run, "", None).await;
    host.append_texts(&run, 0..3).await;
    let headers = [("producer-id", "p"), ("producer-epoch", "0"), ("producer-seq", "0")];
    host.lines(&run, text_lines(3..3000), &headers).await;
    host.lines(&run, text_lines(1003..4000), &[headers[0], headers[1], ("producer-seq", "1000")])
        .await;
    host.finish(&run).await;
    let events = tab.rest().await;
    assert_eq!(seqs(&events), (1..=events.len() as u64).collect::<Vec<_>>());
    assert_eq!(texts(&events), (0..4000).map(|n| format!("{n} ")).collect::<Vec<_>>());
    assert_eq!(host.attach(&run, "", None).await.rest().await, events);
    host.end().await;
}

#[tokio::test]
async fn producers_that_disturb_each_other_while_commits_are_under_way() {
    let (host, _disk) = on_disk().await;
    disturb_each_other(host).await;
}

#[tokio::test]
async fn a_full_disk_refuses_new_events_and_still_takes_terminals() {
    let (host, disk) = on_disk().await;
    let run = host.run("push").await;
    let other = host.run("push").await;
    disk.set_free(Some(0));
    let filler = text(&"x".repeat(30_000));
    let mut taken = 0;
    let refused = loop {
        let reply = host.append(&run, &filler).await;
        if reply.status != 200 {
            break reply;
        }
        taken += 1;
        assert!(taken < 1_000, "the disk is full");
    };
    refused.problem(507, "disk_full");
    let start = json!({"agent": "push", "input": filler["text"]});
    host.post("/v1/sessions/new/runs", &start).await.problem(507, "disk_full");
    let lines = host.lines(&other, filler.to_string(), &[]).await.lines();
    assert_eq!(lines[0]["error"]["code"], "disk_full");
    host.finish(&run).await;
    let log = host.log(&run).await;
    assert_eq!(texts(&log).len(), taken);
    assert_eq!(log.last().expect("a terminal")["type"], "run.finished");
    disk.set_free(None);
    host.append_texts(&other, 0..1).await;
    host.end().await;
}

#[tokio::test]
async fn damage_is_told_by_its_name_and_other_runs_are_served() {
    let (host, disk) = on_disk().await;
    let (broken, whole) = (host.run("push").await, host.run("push").await);
    host.append(&broken, &text("this is the place")).await;
    host.append_texts(&broken, 0..2).await;
    host.append_texts(&whole, 0..2).await;
    damage(&disk, b"this is the place");
    let mut tab = host.attach(&broken, "", None).await;
    assert_eq!(seqs(&tab.rest().await), [1, 2]);
    let again = format!("/v1/runs/{broken}/events?after={broken}:2");
    let problem = host.get(&again).await.problem(500, "corrupt");
    assert!(!problem.to_string().contains("/data"));
    let request = host.request(reqwest::Method::GET, &again).header("accept", "text/event-stream");
    crate::support::read(request).await.problem(500, "corrupt");
    assert_eq!(texts(&host.log(&whole).await), ["0 ", "1 "]);
    host.end().await;
}

/// Overwrites the bytes in whichever segment they stand.
fn damage(disk: &FaultyDisk, bytes: &[u8]) {
    let dir = Path::new("/data/journal");
    for name in disk.list(dir).expect("the journal's folder") {
        let path = dir.join(name);
        let live = disk.live(&path);
        if let Some(at) = live.windows(bytes.len()).position(|window| window == bytes) {
            return disk.damage(&path, at, b"XXXX");
        }
    }
    panic!("the bytes are nowhere");
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged() {
    let (host, disk) = on_disk().await;
    let run = host.run("push").await;
    host.append_texts(&run, 0..1).await;
    disk.fail_sync();
    host.append(&run, &text("lost")).await.problem(503, "unavailable");
    host.append(&run, &text("also lost")).await.problem(503, "unavailable");
    let start = host.post("/v1/sessions/new/runs", &json!({"agent": "push"})).await;
    start.problem(503, "unavailable");
    host.get(&format!("/v1/runs/{run}/events")).await.problem(503, "unavailable");
    // A browser would give up for good at a 5xx.
    let mut turned_away = host.attach(&run, "", None).await;
    assert_eq!(turned_away.status(), 200);
    assert_eq!(turned_away.block().await.expect("a hint").retry.as_deref(), Some("2000"));
    assert_eq!(turned_away.block().await, None);
    host.end().await;
}

#[tokio::test]
async fn h01_on_disk_nothing_is_over_a_cap() {
    let (host, _disk) = on_disk().await;
    let run = host.run("push").await;
    host.lines(&run, text_lines(0..3000), &[]).await;
    let all: Vec<String> = (0..3000).map(|n| format!("{n} ")).collect();
    assert_eq!(texts(&host.log(&run).await), all);
    host.end().await;
}

#[tokio::test]
async fn h03_a_hole_is_told_and_no_snapshot_goes_over_it() {
    let (host, disk) = on_disk().await;
    let run = host.run("push").await;
    host.append(&run, &text("this is the place")).await;
    host.append_texts(&run, 0..2).await;
    damage(&disk, b"this is the place");
    for query in ["from=snapshot", "after={}:2", "from=last:3"] {
        let query = query.replace("{}", &run);
        let page = host.get(&format!("/v1/runs/{run}/events?{query}")).await;
        page.problem(500, "corrupt");
    }
    let mut behind = host.attach(&run, &format!("?after={run}:3"), None).await;
    assert_eq!(texts(&behind.take(2).await), ["0 ", "1 "], "what is behind it can be read");
    host.end().await;
}

#[tokio::test]
async fn h04_a_log_that_stops_short_is_told() {
    let (host, disk) = on_disk().await;
    let run = host.run("push").await;
    host.append_texts(&run, 0..2).await;
    host.append(&run, &text("this is the last")).await;
    damage(&disk, b"this is the last");
    let mut tab = host.attach(&run, "", None).await;
    assert_eq!(texts(&tab.rest().await), ["0 ", "1 "]);
    let page = host.get(&format!("/v1/runs/{run}/events?after={run}:4")).await;
    page.problem(500, "corrupt");
    host.get(&format!("/v1/runs/{run}/events?from=snapshot")).await.problem(500, "corrupt");
    host.end().await;
}
