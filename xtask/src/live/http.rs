//! HTTP/1.1 over one socket: what is sent is bytes, what comes back is taken apart on arrival.

use std::{io, net::SocketAddr};

use bytes::{Buf, BytesMut};
use memchr::memmem;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// Room asked for before each read.
const READ_BYTES: usize = 64 << 10;

/// A keep-alive connection.
pub(crate) struct Conn {
    /// Where requests go.
    pub(crate) to: OwnedWriteHalf,
    /// Where answers come from.
    pub(crate) from: Answers,
}

impl Conn {
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let (from, to) = socket.into_split();
        let from = Answers { socket: from, input: BytesMut::new(), left: Left::Nothing };
        Ok(Self { to, from })
    }

    /// Sends a request and waits for its whole answer.
    pub(crate) async fn call(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.to.write_all(request).await?;
        self.from.answer().await
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn begin(&mut self, request: &[u8]) -> io::Result<Head> {
        self.to.write_all(request).await?;
        self.from.head().await
    }
}

/// A request without a body, or with one if `body` is not empty.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut out = format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n").into_bytes();
    for (name, value) in headers {
        out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    if method != "GET" && !headers.iter().any(|(name, _)| *name == "transfer-encoding") {
        out.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    out
}

/// `piece` as a chunk of a chunked body.
pub(crate) fn chunk(piece: &[u8]) -> Vec<u8> {
    let mut out = format!("{:x}\r\n", piece.len()).into_bytes();
    out.extend_from_slice(piece);
    out.extend_from_slice(b"\r\n");
    out
}

/// The end of a chunked body.
pub(crate) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The head of an answer.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    text: BytesMut,
}

impl Head {
    /// The first value of a header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(&self.text).ok()?.split("\r\n").skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// An answer with its body.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.status
    }

    /// The body as JSON; null if it is none.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What is still to come of a body.
#[derive(Clone, Copy, Debug)]
enum Left {
    Nothing,
    Bytes(usize),
    /// Chunks, of the present one this many bytes, its line end not counted.
    Chunk(usize),
    /// The line end after a chunk, then the next chunk's size.
    ChunkSize {
        first: bool,
    },
    ToTheEnd,
}

/// The receiving half of a connection.
pub(crate) struct Answers {
    socket: OwnedReadHalf,
    input: BytesMut,
    left: Left,
}

impl Answers {
    /// A whole answer.
    pub(crate) async fn answer(&mut self) -> io::Result<Answer> {
        let head = self.head().await?;
        let mut body = Vec::new();
        while self.more(&mut body).await? {}
        Ok(Answer { head, body })
    }

    /// The head of the next answer. Interim answers (1xx) are passed over.
    pub(crate) async fn head(&mut self) -> io::Result<Head> {
        loop {
            let end = loop {
                match memmem::find(&self.input, b"\r\n\r\n") {
                    Some(end) => break end,
                    None => self.receive().await?,
                }
            };
            let text = self.input.split_to(end);
            self.input.advance(4);
            let status =
                text.get(9..12).and_then(|code| std::str::from_utf8(code).ok()?.parse().ok());
            let head = Head { status: status.ok_or_else(|| bad("status line"))?, text };
            if head.status >= 200 {
                self.left = left(&head)?;
                return Ok(head);
            }
        }
    }

    /// Appends what arrives next of the body to `out`; `false` at its end.
    pub(crate) async fn more(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        let before = out.len();
        loop {
            while self.take(out)? {}
            if out.len() > before {
                return Ok(true);
            }
            match self.left {
                Left::Nothing => return Ok(false),
                Left::ToTheEnd => {
                    if self.read().await? == 0 {
                        self.left = Left::Nothing;
                    }
                }
                Left::Bytes(_) | Left::Chunk(_) | Left::ChunkSize { .. } => self.receive().await?,
            }
        }
    }

    /// Moves what is here of the body to `out`; `false` if that is nothing.
    fn take(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        match self.left {
            Left::Nothing => Ok(false),
            Left::ToTheEnd => Ok(self.give(out, usize::MAX) > 0),
            Left::Bytes(left) => {
                let given = self.give(out, left);
                self.left = if given == left { Left::Nothing } else { Left::Bytes(left - given) };
                Ok(given > 0)
            }
            Left::Chunk(left) => {
                let given = self.give(out, left);
                let ended = given == left;
                self.left = if ended {
                    Left::ChunkSize { first: false }
                } else {
                    Left::Chunk(left - given)
                };
                Ok(given > 0)
            }
            Left::ChunkSize { first } => self.chunk_size(first),
        }
    }

    fn give(&mut self, out: &mut Vec<u8>, most: usize) -> usize {
        let count = self.input.len().min(most);
        out.extend_from_slice(&self.input[..count]);
        self.input.advance(count);
        count
    }

    fn chunk_size(&mut self, first: bool) -> io::Result<bool> {
        let skip = if first { 0 } else { 2 };
        let Some(rest) = self.input.get(skip..) else { return Ok(false) };
        let Some(end) = memmem::find(rest, b"\r\n") else { return Ok(false) };
        let digits = std::str::from_utf8(&rest[..end]).ok();
        let size = digits.and_then(|digits| usize::from_str_radix(digits, 16).ok());
        let size = size.ok_or_else(|| bad("chunk size"))?;
        if size > 0 {
            self.input.advance(skip + end + 2);
            self.left = Left::Chunk(size);
        } else if rest.len() >= end + 4 {
            self.input.advance(skip + end + 4);
            self.left = Left::Nothing;
        }
        Ok(size > 0)
    }

    async fn receive(&mut self) -> io::Result<()> {
        match self.read().await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn read(&mut self) -> io::Result<usize> {
        self.input.reserve(READ_BYTES);
        self.socket.read_buf(&mut self.input).await
    }
}

fn left(head: &Head) -> io::Result<Left> {
    if head.status == 204 || head.status == 304 {
        return Ok(Left::Nothing);
    }
    if let Some(length) = head.header("content-length") {
        return length.parse().map(Left::Bytes).map_err(|_| bad("content-length"));
    }
    let chunked = head.header("transfer-encoding") == Some("chunked");
    Ok(if chunked { Left::ChunkSize { first: true } } else { Left::ToTheEnd })
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the answer has a bad {what}"))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// What is read of `answer` when it comes in pieces of this many bytes.
    async fn read(answer: &'static [u8], piece: usize) -> io::Result<(u16, Vec<u8>)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let serve = async {
            let (mut socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            for piece in answer.chunks(piece) {
                socket.write_all(piece).await?;
                tokio::task::yield_now().await;
            }
            io::Result::Ok(())
        };
        let ask = async { Conn::open(address).await?.from.answer().await };
        let (served, answer) = tokio::join!(serve, ask);
        served?;
        answer.map(|answer| (answer.status(), answer.body))
    }

    async fn check(answer: &'static [u8], status: u16, body: &[u8]) {
        for piece in 1..=answer.len() {
            let read = read(answer, piece).await.unwrap();
            assert_eq!(read, (status, body.to_vec()), "in pieces of {piece}");
        }
    }

    #[tokio::test]
    async fn bodies_end_where_they_say() {
        check(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 200, b"abc").await;
        check(b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"").await;
        check(b"HTTP/1.1 200 OK\r\n\r\nto the end", 200, b"to the end").await;
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
            3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n";
        check(chunked, 200, b"abc0123456789").await;
        check(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 409 No\r\ncontent-length: 0\r\n\r\n",
            409,
            b"",
        )
        .await;
    }

    #[tokio::test]
    async fn a_body_that_is_cut_is_an_error() {
        for cut in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabc"[..],
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
            b"HTTP/1.1 200",
        ] {
            assert_eq!(read(cut, 5).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}
