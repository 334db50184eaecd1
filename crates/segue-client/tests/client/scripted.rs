//! A server of raw HTTP/1.1 bytes that does to each connection what its test says.

use std::{
    collections::VecDeque,
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Serves until it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    _accepting: JoinSet<()>,
    open: Arc<Open>,
}

#[derive(Default)]
struct Open {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Server {
    /// Gives each connection's first request to `serve`, with the number of connections before.
    pub(crate) async fn start<S, F>(serve: S) -> Self
    where
        S: Fn(usize, Peer) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Self::with_inbox("HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n", serve).await
    }

    /// The same; requests for a run's inbox get `inbox` and are not counted.
    pub(crate) async fn with_inbox<S, F>(inbox: &'static str, serve: S) -> Self
    where
        S: Fn(usize, Peer) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let open = Arc::new(Open::default());
        let counted = Arc::clone(&open);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            let mut index = 0;
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let guard = OpenGuard::new(&counted);
                let Some(peer) = Peer::read_head(stream, guard).await else { continue };
                if peer.request_line().ends_with("/control") {
                    connections.spawn(peer.inbox(inbox));
                } else {
                    connections.spawn(serve(index, peer));
                    index += 1;
                }
            }
        });
        Self { address, _accepting: accepting, open }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The most connections that were open at a time.
    pub(crate) fn most_open(&self) -> usize {
        self.open.most.load(Ordering::SeqCst)
    }
}

struct OpenGuard(Arc<Open>);

impl OpenGuard {
    fn new(open: &Arc<Open>) -> Self {
        let now = open.now.fetch_add(1, Ordering::SeqCst) + 1;
        open.most.fetch_max(now, Ordering::SeqCst);
        Self(Arc::clone(open))
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The other end of one connection. Dropping it closes the connection.
pub(crate) struct Peer {
    stream: TcpStream,
    pub(crate) head: String,
    /// Bytes of the body that were read and not taken, still in their chunks.
    raw: Vec<u8>,
    /// Decoded bytes of the body that make no line yet.
    text: Vec<u8>,
    lines: VecDeque<String>,
    _open: OpenGuard,
}

impl Peer {
    async fn read_head(mut stream: TcpStream, open: OpenGuard) -> Option<Self> {
        let mut raw = Vec::new();
        loop {
            if let Some(end) = raw.windows(4).position(|window| window == b"\r\n\r\n") {
                let rest = raw.split_off(end + 4);
                let head = String::from_utf8(raw).unwrap();
                let lines = VecDeque::new();
                return Some(Self {
                    stream,
                    head,
                    raw: rest,
                    text: Vec::new(),
                    lines,
                    _open: open,
                });
            }
            if stream.read_buf(&mut raw).await.ok()? == 0 {
                return None;
            }
        }
    }

    pub(crate) fn request_line(&self) -> &str {
        self.head.lines().next().unwrap().trim_end_matches(" HTTP/1.1")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// The number behind the colon of `Last-Event-ID`, or 0.
    pub(crate) fn last_event_id(&self) -> u64 {
        let id = self.header("last-event-id").unwrap_or("r:0");
        id.rsplit(':').next().unwrap().parse().unwrap()
    }

    /// Sends bytes as they are. A client that left does not matter here.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.ok();
    }

    /// A whole answer with a body.
    pub(crate) async fn answer(&mut self, status: &str, media_type: &str, body: &str) {
        let len = body.len();
        self.send(format!(
            "HTTP/1.1 {status}\r\ncontent-type: {media_type}\r\ncontent-length: {len}\r\n\
             connection: close\r\n\r\n{body}"
        ))
        .await;
    }

    pub(crate) async fn problem(&mut self, status: &str, code: &str) {
        let body = format!(r#"{{"type":"/problems/{code}","title":"no","code":"{code}"}}"#);
        self.answer(status, "application/problem+json", &body).await;
    }

    /// The head of a body that lasts until the connection ends.
    pub(crate) async fn open(&mut self, media_type: &str) {
        self.send(format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {media_type}\r\nconnection: close\r\n\r\n"
        ))
        .await;
    }

    /// A stream of events that ends with the connection.
    pub(crate) async fn stream(&mut self, body: impl AsRef<[u8]>) {
        self.open("text/event-stream").await;
        self.send(body).await;
    }

    async fn inbox(mut self, answer: &'static str) {
        self.send(answer).await;
        self.hold().await;
    }

    /// Leaves the connection open until the client closes it.
    pub(crate) async fn hold(&mut self) {
        while self.stream.read(&mut [0; 1024]).await.is_ok_and(|n| n > 0) {}
    }

    /// The next line of a chunked body, blank ones too; none at its end.
    pub(crate) async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some(line);
            }
            match self.chunk_len() {
                Some((0, _)) => return None,
                Some((len, at)) if self.raw.len() >= at + len + 2 => {
                    self.text.extend_from_slice(&self.raw[at..at + len]);
                    self.raw.drain(..at + len + 2);
                    self.cut_lines();
                }
                _ => {
                    if self.stream.read_buf(&mut self.raw).await.ok()? == 0 {
                        return None;
                    }
                }
            }
        }
    }

    /// The length of the next chunk and where it begins.
    fn chunk_len(&self) -> Option<(usize, usize)> {
        let end = self.raw.windows(2).position(|window| window == b"\r\n")?;
        let len = std::str::from_utf8(&self.raw[..end]).unwrap();
        Some((usize::from_str_radix(len, 16).unwrap(), end + 2))
    }

    fn cut_lines(&mut self) {
        while let Some(end) = self.text.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.text.drain(..=end).collect();
            self.lines.push_back(String::from_utf8(line).unwrap().trim_end().to_owned());
        }
    }

    /// The whole body of a request that told its length.
    pub(crate) async fn body(&mut self) -> String {
        let len: usize = self.header("content-length").unwrap().parse().unwrap();
        while self.raw.len() < len {
            assert_ne!(self.stream.read_buf(&mut self.raw).await.unwrap(), 0);
        }
        String::from_utf8(self.raw.clone()).unwrap()
    }
}

/// A frame of the run `r` as a server sends it. The last of `last` is its terminal.
pub(crate) fn frame(seq: u64, last: u64) -> String {
    let (kind, fields) = if seq == last {
        ("run.finished", r#""message_id":"m","status":"finished","finish_reason":"stop""#)
    } else {
        ("text.delta", r#""part":"p","text":"x""#)
    };
    format!(
        "id: r:{seq}\nevent: {kind}\ndata: {{\"seq\":{seq},\"at\":\"2026-11-20T12:00:00.000Z\",\
         \"run_id\":\"r\",\"type\":\"{kind}\",{fields}}}\n\n"
    )
}

/// What a server sends to one that has everything up to `after`.
pub(crate) fn frames(after: u64, last: u64) -> String {
    let head = if after == 0 { String::new() } else { format!("id: r:{after}\n\n") };
    let events: String = (after + 1..=last).map(|seq| frame(seq, last)).collect();
    format!(": hello\nretry: 1\n\n{head}{events}")
}
