//! An upstream that does what a script says: sends a body in any pieces, stalls, cuts, resets.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};

/// What is done with a request, one step after the other; then the connection is closed.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Send(Vec<u8>),
    /// Nothing more is sent until the client leaves.
    Stall,
    /// Nothing is sent until the test adds a permit.
    Await(Arc<Semaphore>),
    /// The connection is reset instead of closed.
    Reset,
}

/// A server of scripts: the first request gets the first, every one after the last the last.
pub(crate) struct Scripted {
    pub(crate) base_url: String,
    requests: Arc<Mutex<Vec<String>>>,
    /// How many clients left while they were waited for.
    left: watch::Receiver<usize>,
}

impl Scripted {
    #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
    pub(crate) async fn start(scripts: Vec<Vec<Act>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (leaving, left) = watch::channel(0);
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (seen, leaving) = (Arc::clone(&seen), leaving.clone());
                let scripts = scripts.clone();
                tokio::spawn(async move {
                    let played = play(socket, &scripts, &seen, &leaving).await;
                    // A client that leaves is what some tests are about.
                    drop(played);
                });
            }
        });
        Self { base_url: format!("http://{address}/v1"), requests, left }
    }

    /// The requests so far, each with its head and body.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("not poisoned").clone()
    }

    /// Waits until so many clients have left a stalled answer.
    pub(crate) async fn left(&mut self, count: usize) {
        self.left.wait_for(|left| *left >= count).await.expect("the server goes on");
    }
}

async fn play(
    mut socket: TcpStream,
    scripts: &[Vec<Act>],
    seen: &Mutex<Vec<String>>,
    leaving: &watch::Sender<usize>,
) -> std::io::Result<()> {
    let request = read_request(&mut socket).await?;
    let number = {
        let mut seen = seen.lock().expect("not poisoned");
        seen.push(request);
        seen.len() - 1
    };
    let script = &scripts[number.min(scripts.len() - 1)];
    for act in script {
        match act {
            Act::Send(bytes) => socket.write_all(bytes).await?,
            Act::Stall => {
                let mut byte = [0];
                let end = socket.read(&mut byte).await;
                leaving.send_modify(|left| *left += 1);
                return end.map(drop);
            }
            Act::Await(permits) => {
                let permit = permits.acquire().await;
                permit.expect("never closed").forget();
            }
            Act::Reset => {
                socket.set_zero_linger()?;
                return Ok(());
            }
        }
    }
    socket.shutdown().await
}

async fn read_request(socket: &mut TcpStream) -> std::io::Result<String> {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.to_lowercase().split("content-length: ").nth(1).and_then(|rest| {
                    rest.split("\r\n").next().and_then(|length| length.parse().ok())
                });
            if body.len() >= length.unwrap_or(0) {
                return Ok(text.into_owned());
            }
        }
        if socket.read_buf(&mut request).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// A whole answer: its head, then the body in pieces, ended by closing the connection.
pub(crate) fn answer(status: &str, media: &str, body: &[&str]) -> Vec<Act> {
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: {media}\r\nconnection: close\r\n\r\n");
    let body = body.iter().map(|piece| Act::Send(piece.as_bytes().to_vec()));
    std::iter::once(Act::Send(head.into_bytes())).chain(body).collect()
}

/// A stream of server-sent events.
pub(crate) fn sse(body: &[&str]) -> Vec<Act> {
    answer("200 OK", "text/event-stream", body)
}
