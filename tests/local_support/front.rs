//! What may stand between a browser and the load balancer: a CDN, a sign-in, a broken proxy, or pages that a test makes.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// One request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub host: String,
    pub accept: String,
}

impl Request {
    pub fn is_navigation(&self) -> bool {
        self.accept.starts_with("text/html")
    }

    pub fn is_poll(&self) -> bool {
        self.accept == "application/vnd.autostopping+json"
    }
}

/// What becomes of a request.
pub enum Reply {
    /// It goes on to the load balancer.
    Forward(SocketAddr),
    /// This is the answer, whole.
    Answer(String),
}

/// A server on loopback, until it is dropped.
pub struct Front {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    serving: JoinHandle<()>,
}

impl Front {
    pub async fn start(reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        let (log, reply) = (Arc::clone(&requests), Arc::new(reply));
        let serving = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (log, reply) = (Arc::clone(&log), Arc::clone(&reply));
                tokio::spawn(async move { serve(client, &log, &*reply).await });
            }
        });
        Self {
            address,
            requests,
            serving,
        }
    }

    /// All requests so far but those for icons.
    pub fn requests(&self) -> Vec<Request> {
        let all = self.requests.lock().expect("nobody panics with it").clone();
        all.into_iter().filter(|one| one.path != "/favicon.ico").collect()
    }

    pub fn navigations(&self) -> usize {
        self.requests().iter().filter(|one| one.is_navigation()).count()
    }

    pub fn polls(&self) -> usize {
        self.requests().iter().filter(|one| one.is_poll()).count()
    }

    pub fn url(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.address.port())
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// An answer of HTTP/1.1; `headers` are whole lines.
pub fn answer(status: &str, headers: &[&str], body: &str) -> Reply {
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    Reply::Answer(format!(
        "HTTP/1.1 {status}\r\n{lines}Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

pub fn page(html: &str) -> Reply {
    answer("200 OK", &["Content-Type: text/html; charset=utf-8"], html)
}

/// One request a connection, so that each is answered as things are then.
async fn serve(mut client: TcpStream, log: &Mutex<Vec<Request>>, reply: &(dyn Fn(&Request) -> Reply + Send + Sync)) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match client.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut words = head.split(' ').map(str::to_owned);
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_owned()).unwrap_or_default()
    };
    let request = Request {
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        host: header("host"),
        accept: header("accept"),
    };
    let reply = reply(&request);
    log.lock().expect("nobody panics with it").push(request);
    match reply {
        Reply::Answer(text) => {
            let _ = client.write_all(text.as_bytes()).await;
            let _ = client.shutdown().await;
        }
        Reply::Forward(to) => {
            let Ok(mut balancer) = TcpStream::connect(to).await else {
                return;
            };
            let lines = head.trim_end().lines();
            let kept = lines.filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
            let head: String = kept.map(|line| format!("{line}\r\n")).collect();
            let head = format!("{head}Connection: close\r\n\r\n");
            if balancer.write_all(head.as_bytes()).await.is_ok() {
                let _ = copy_bidirectional(&mut client, &mut balancer).await;
            }
        }
    }
}
