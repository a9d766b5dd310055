//! HTTP/1.1 by hand, both sides, so that a test sees what is on the wire.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::{connect, machine, within};

/// A head and a body.
#[derive(Debug, Clone)]
pub struct Message {
    /// `GET / HTTP/1.1` or `HTTP/1.1 200 OK`.
    pub first: String,
    /// Names in small letters.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Message {
    pub fn status(&self) -> u16 {
        let status = self.first.split(' ').nth(1).expect("a status");
        status.parse().expect("a number")
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

async fn head(stream: &mut BufReader<impl AsyncRead + Unpin>) -> std::io::Result<Message> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let headers = lines.iter().skip(1).filter_map(|line| line.split_once(':'));
    Ok(Message {
        first: lines.first().cloned().unwrap_or_default(),
        headers: headers
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect(),
        body: Vec::new(),
    })
}

/// Up to the length it says; nothing without one.
async fn whole(stream: &mut BufReader<impl AsyncRead + Unpin>) -> std::io::Result<Message> {
    let mut message = head(stream).await?;
    if let Some(length) = message.header("content-length") {
        message.body = vec![0; length.parse().expect("a length")];
        stream.read_exact(&mut message.body).await?;
    }
    Ok(message)
}

/// A request that has been sent; its answer has not been read.
pub struct Asked(BufReader<TcpStream>);

/// `head` is the first line and headers, each ended by `\n`; the connection is not used again.
pub async fn ask(at: SocketAddr, head: &str, body: &[u8]) -> Asked {
    let mut stream = connect(at).await;
    let head = head.trim_end().replace('\n', "\r\n");
    stream
        .write_all(format!("{head}\r\n\r\n").as_bytes())
        .await
        .expect("written");
    stream.write_all(body).await.expect("written");
    Asked(BufReader::new(stream))
}

impl Asked {
    pub async fn answer(&mut self) -> Message {
        within("an answer", whole(&mut self.0)).await.expect("an answer")
    }

    /// What follows an upgrade is no HTTP.
    pub async fn upgraded(mut self) -> (Message, TcpStream) {
        let answer = self.answer().await;
        (answer, self.0.into_inner())
    }
}

pub async fn get(at: SocketAddr, host: &str, path: &str) -> Message {
    ask(at, &format!("GET {path} HTTP/1.1\nHost: {host}"), b"")
        .await
        .answer()
        .await
}

/// A site: it answers with its name, the request's first line and how many bytes of body it got, speaks its own protocol
/// after an upgrade, and counts its requests.
pub async fn site(name: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    let at = machine(move |stream| {
        let count = Arc::clone(&count);
        async move {
            let mut stream = BufReader::new(stream);
            loop {
                let request = whole(&mut stream).await?;
                count.fetch_add(1, Ordering::SeqCst);
                if request.header("upgrade").is_some() {
                    let accept =
                        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
                    stream.write_all(accept).await?;
                    let mut stream = stream.into_inner();
                    let (mut read, mut write) = stream.split();
                    return tokio::io::copy(&mut read, &mut write).await.map(|_| ());
                }
                let text = format!("{name}: {} with {} bytes", request.first, request.body.len());
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
                stream.write_all(answer.as_bytes()).await?;
            }
        }
    })
    .await;
    (at, requests)
}
