//! A proxy between the SDK and an AWS API that counts the calls, and can write down what IAM would judge them by.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use proxymanager::local::api::record::Recorder;

/// Counts the calls by name (`StartInstances`, `GetItem`, ...) on their way to `upstream`.
pub struct Counting {
    pub port: u16,
    counts: Arc<Mutex<BTreeMap<String, u32>>>,
}

impl Counting {
    /// Listens on a port of the kernel's choice and passes everything on to `127.0.0.1:upstream`.
    pub fn start(upstream: u16) -> Self {
        Self::between(upstream, None)
    }

    /// As [`Counting::start`], for the calls of the function, which are written down.
    pub fn of_function(upstream: u16, environment: &[(String, String)]) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("recorded-calls");
        Self::between(
            upstream,
            Some(Recorder::new(&folder, environment).expect("a file to record in")),
        )
    }

    fn between(upstream: u16, recorder: Option<Recorder>) -> Self {
        let recorder = Arc::new(recorder);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let counts = Arc::new(Mutex::new(BTreeMap::new()));
        let shared = Arc::clone(&counts);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (counts, recorder) = (Arc::clone(&shared), Arc::clone(&recorder));
                std::thread::spawn(move || pass_on(client, upstream, &counts, recorder.as_ref().as_ref()));
            }
        });
        Counting { port, counts }
    }

    /// The counts so far, and starts anew.
    pub fn take(&self) -> BTreeMap<String, u32> {
        std::mem::take(&mut *self.counts.lock().expect("no thread panics while it counts"))
    }
}

/// The sum of all calls whose name starts so.
pub fn sum(counts: &BTreeMap<String, u32>, start: &str) -> u32 {
    counts
        .iter()
        .filter(|(name, _)| name.starts_with(start))
        .map(|(_, count)| count)
        .sum()
}

/// One request a connection: the SDK opens another when it needs one.
fn pass_on(mut client: TcpStream, upstream: u16, counts: &Mutex<BTreeMap<String, u32>>, recorder: Option<&Recorder>) {
    let Some((head, body)) = read_request(&mut client) else {
        return;
    };
    if let Some(recorder) = recorder {
        let text = String::from_utf8_lossy(&head).into_owned();
        let path = text.split(' ').nth(1).unwrap_or_default();
        recorder.note_request(path, target(&text), &body.clone().into());
    }
    let name = call_name(&head, &body);
    *counts
        .lock()
        .expect("no thread panics while it counts")
        .entry(name)
        .or_default() += 1;
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", upstream)) else {
        return;
    };
    let end = head.len() - 2;
    let sent = server
        .write_all(&head[..end])
        .and_then(|()| server.write_all(b"Connection: close\r\n\r\n"));
    if sent.and_then(|()| server.write_all(&body)).is_ok() {
        let _ = std::io::copy(&mut server, &mut client);
    }
}

fn read_request(client: &mut TcpStream) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = bytes[..end + 4].to_vec();
            let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
            let length = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
            let mut body = bytes[end + 4..].to_vec();
            while body.len() < length.unwrap_or(0) {
                match client.read(&mut chunk).ok()? {
                    0 => return None,
                    read => body.extend_from_slice(&chunk[..read]),
                }
            }
            return Some((head, body));
        }
        match client.read(&mut chunk).ok()? {
            0 => return None,
            read => bytes.extend_from_slice(&chunk[..read]),
        }
    }
}

/// The query protocol names the call in the body, the JSON protocol in `X-Amz-Target`.
fn call_name(head: &[u8], body: &[u8]) -> String {
    let head = String::from_utf8_lossy(head).into_owned();
    if let Some(target) = target(&head) {
        return target.rsplit('.').next().unwrap_or_default().to_owned();
    }
    let body = String::from_utf8_lossy(body).into_owned();
    let action = body.split('&').find_map(|pair| pair.strip_prefix("Action="));
    action.unwrap_or("unknown").to_owned()
}

fn target(head: &str) -> Option<&str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(name, _)| name.eq_ignore_ascii_case("x-amz-target"))?;
    Some(value.trim())
}
