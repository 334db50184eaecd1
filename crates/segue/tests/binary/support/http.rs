//! The least of HTTP/1.1 that a test needs: one request on one connection, every byte of it in
//! the hands of the test.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
};

use serde_json::Value;

use super::PATIENCE;

/// A request that is yet to be sent.
pub(crate) struct Request {
    address: String,
    head: String,
    has_host: bool,
    body: Vec<u8>,
    length: Option<usize>,
}

pub(crate) fn get(address: &str, path: &str) -> Request {
    Request::new(address, "GET", path)
}

/// A JSON body, unless told otherwise.
pub(crate) fn post(address: &str, path: &str, body: &impl ToString) -> Request {
    Request::new(address, "POST", path).body(body.to_string())
}

impl Request {
    fn new(address: &str, method: &str, path: &str) -> Self {
        let head = format!("{method} {path} HTTP/1.1\r\n");
        let address = address.to_owned();
        Self { address, head, has_host: false, body: Vec::new(), length: None }
    }

    /// Replaces none: whoever gives a header twice sends it twice.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.has_host |= name == "host";
        self.head.extend([name, ": ", value, "\r\n"]);
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Announces another length than the body has; the connection ends behind the body.
    pub(crate) fn announcing(mut self, length: usize) -> Self {
        self.length = Some(length);
        self
    }

    /// Sends it and reads the answer to its end.
    pub(crate) fn send(self) -> Answer {
        self.try_send().expect("the server answers")
    }

    pub(crate) fn try_send(self) -> io::Result<Answer> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut head = self.head;
        if !self.has_host {
            head.extend(["host: ", &self.address, "\r\n"]);
        }
        if !self.body.is_empty() && !head.contains("content-type:") {
            head += "content-type: application/json\r\n";
        }
        let length = self.length.unwrap_or(self.body.len()).to_string();
        head.extend(["content-length: ", &length, "\r\nconnection: close\r\n\r\n"]);
        // A server that refuses may close before it has read everything.
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&self.body)).ok();
        if self.length.is_some() {
            stream.shutdown(std::net::Shutdown::Write)?;
        }
        let mut bytes = Vec::new();
        let ended = stream.read_to_end(&mut bytes);
        Answer::parse(&bytes)
            .ok_or_else(|| ended.err().unwrap_or(io::ErrorKind::UnexpectedEof.into()))
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let body = &bytes[end + 4..];
        let is_chunked = head.contains("transfer-encoding: chunked");
        let body = if is_chunked { unchunk(body) } else { body.to_vec() };
        Some(Self { status, head, body })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1);
        let mut pairs = lines.filter_map(|line| line.split_once(": "));
        pairs.find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The `code` of a problem document.
    pub(crate) fn code(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        problem["code"].as_str().expect("a problem has a code").to_owned()
    }
}

/// The chunks' bytes, as far as they go.
fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = String::from_utf8_lossy(&rest[..end]);
        let Ok(size) = usize::from_str_radix(&size, 16) else { break };
        let chunk = &rest[end + 2..];
        out.extend_from_slice(&chunk[..size.min(chunk.len())]);
        rest = chunk.get(size + 2..).unwrap_or_default();
    }
    out
}
