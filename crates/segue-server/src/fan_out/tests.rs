//! Tasks that change places.

use std::thread::{ThreadId, current};

use segue_engine::SystemClock;
use segue_journal::{Journal, MemoryJournal, MemoryOptions};
use tokio::sync::oneshot;

use super::*;

fn fan_out(threads: usize) -> Arc<FanOut> {
    let journal = MemoryJournal::new(MemoryOptions::new(Arc::new(SystemClock)));
    FanOut::start(threads, || journal.doorbell().shard()).expect("threads start")
}

/// Runs `task` in a seat and gives its result.
async fn seated<T: Send + 'static>(
    fan_out: &Arc<FanOut>,
    task: impl Future<Output = T> + Send + 'static,
) -> T {
    let (done, result) = oneshot::channel();
    let task = async move { drop(done.send(task.await)) };
    fan_out.seat(Seat::new(task, wish()));
    result.await.expect("the task ends")
}

fn here() -> ThreadId {
    current().id()
}

#[tokio::test]
async fn a_task_boards_stays_and_goes_home() {
    let (fan_out, home) = (fan_out(1), here());
    let task = {
        let fan_out = fan_out.clone();
        async move {
            let before = here();
            drop(fan_out.board().await);
            let boarded = here();
            tokio::task::yield_now().await;
            drop(fan_out.board().await);
            let stayed = here();
            go_home().await;
            (before, boarded, stayed, here())
        }
    };
    let (before, boarded, stayed, after) = seated(&fan_out, task).await;
    assert_eq!((before, after), (home, home));
    assert_ne!(boarded, home);
    assert_eq!(boarded, stayed);
    fan_out.drained().await;
}

#[tokio::test]
async fn tasks_are_dealt_out_to_all_threads() {
    let fan_out = fan_out(3);
    let mut threads = Vec::new();
    for _ in 0..6 {
        let boarding = fan_out.clone();
        let task = async move {
            drop(boarding.board().await);
            here()
        };
        threads.push(seated(&fan_out, task).await);
    }
    assert_eq!(threads[..3], threads[3..]);
    assert!(threads[0] != threads[1] && threads[1] != threads[2] && threads[0] != threads[2]);
}

#[tokio::test]
async fn streams_of_one_connection_share_its_thread_and_the_rest_stays_home() {
    use hyper::rt::Executor;

    let (fan_out, connection) = (fan_out(3), wish());
    let streams = Streams::new(&fan_out, &connection);
    let mut boarded = Vec::new();
    for boards in [true, false, true] {
        let (done, result) = oneshot::channel();
        let boarding = fan_out.clone();
        streams.execute(async move {
            if boards {
                drop(boarding.board().await);
            }
            done.send(here()).expect("awaited");
        });
        boarded.push(result.await.expect("the stream ends"));
    }
    assert_eq!(boarded[0], boarded[2]);
    assert_eq!(boarded[1], here());
    // The connection itself is wished to where its streams are.
    let follows = async { here() };
    let (done, result) = oneshot::channel();
    let task = async move {
        tokio::task::yield_now().await;
        done.send(follows.await).expect("awaited");
    };
    fan_out.seat(Seat::new(task, connection));
    assert_eq!(result.await.expect("the connection ends"), boarded[0]);
}

#[tokio::test]
async fn outside_a_seat_nothing_moves() {
    let (fan_out, home) = (fan_out(2), here());
    drop(fan_out.board().await);
    assert_eq!(here(), home);
    go_home().await;
    assert_eq!(here(), home);
}

#[tokio::test]
async fn a_panic_ends_its_own_task_only() {
    let fan_out = fan_out(1);
    let boarding = fan_out.clone();
    let panics = async move {
        drop(boarding.board().await);
        panic!("on purpose");
    };
    fan_out.seat(Seat::new(panics, wish()));
    let boarding = fan_out.clone();
    let lives = async move { drop(boarding.board().await) };
    seated(&fan_out, lives).await;
    fan_out.drained().await;
}

#[tokio::test]
async fn a_socket_and_a_timer_work_where_they_were_not_made() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let fan_out = fan_out(1);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port 0 is free");
    let mut theirs =
        tokio::net::TcpStream::connect(listener.local_addr().expect("bound")).await.expect("open");
    let (mut ours, _) = listener.accept().await.expect("connected");
    let timer = tokio::time::sleep(std::time::Duration::from_millis(1));
    let boarding = fan_out.clone();
    let echo = async move {
        drop(boarding.board().await);
        timer.await;
        let byte = ours.read_u8().await.expect("a byte comes");
        ours.write_u8(byte).await.expect("it is taken");
    };
    fan_out.seat(Seat::new(echo, wish()));
    theirs.write_u8(7).await.expect("it is taken");
    assert_eq!(theirs.read_u8().await.expect("it comes back"), 7);
    fan_out.drained().await;
}
