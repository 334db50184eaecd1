//! A client that says exactly what it is told, byte by byte.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::HANG;

/// A plain connection.
pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.expect("the server listens"))
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.expect("the server reads");
    }

    /// Reads until `end` has come; gives everything so far.
    pub(crate) async fn read_until(&mut self, end: &str) -> String {
        let mut text = Vec::new();
        let read = async {
            while !String::from_utf8_lossy(&text).contains(end) {
                let byte = self.0.read_u8().await;
                text.push(byte.unwrap_or_else(|_| panic!("closed before {end:?}: {text:?}")));
            }
        };
        tokio::time::timeout(HANG, read).await.expect("no hang");
        String::from_utf8(text).expect("text")
    }

    /// Reads to the end of the connection, whether it is closed or reset.
    pub(crate) async fn rest(&mut self) -> String {
        let mut text = Vec::new();
        let read = async { drop(self.0.read_to_end(&mut text).await) };
        tokio::time::timeout(HANG, read).await.expect("no hang");
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Sends one request with `Connection: close` and gives the whole answer.
    pub(crate) async fn exchange(address: SocketAddr, request: impl AsRef<[u8]>) -> String {
        let mut raw = Self::open(address).await;
        raw.send(request).await;
        raw.rest().await
    }
}

/// The status of an answer.
pub(crate) fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}
