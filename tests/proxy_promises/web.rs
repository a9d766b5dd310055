//! HTTP/1.1 by hand, so that a test says which connection a request takes and where it comes from.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::proxy_daemon::Place;

/// Ends a test that hangs.
const LONG: Duration = Duration::from_secs(60);

/// A connection that is used again and again.
pub struct Client(BufReader<TcpStream>);

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Client {
    /// To the proxy's site.
    pub fn new(place: &Place) -> Client {
        let stream = TcpStream::connect(format!("{}:8080", place.address)).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        Client(BufReader::new(stream))
    }

    /// Header lines are without their ends.
    pub fn get(&mut self, host: &str, path: &str, headers: &[&str]) -> Answer {
        let mut head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n");
        for line in headers {
            head = head + line + "\r\n";
        }
        self.0.get_mut().write_all(format!("{head}\r\n").as_bytes()).unwrap();
        self.answer()
    }

    fn answer(&mut self) -> Answer {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(
                self.0.read_line(&mut head).unwrap() > 0,
                "the connection has ended: {head}"
            );
        }
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let length = header("content-length:").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            body: String::from_utf8(body).unwrap(),
            head,
        }
    }
}
