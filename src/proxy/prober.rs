//! Whether a machine serves: a connection is accepted, or a GET answered. The daemon asks itself, because Envoy has no
//! cluster of a rule that sleeps.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::unverified;
use crate::clock;

/// How long one check may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many failures in a row it takes to be taken for unwell; one success is enough for the contrary.
const FAILURES: u32 = 3;

/// What to ask, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Check {
    pub host: String,
    pub port: u16,
    /// What is to be answered; without it, a connection will do.
    pub get: Option<Get>,
    /// Whether the machine may count connections that end without a word, so that it is spared them once it serves. MySQL does,
    /// and shuts a client's address out after 100 of them in a row (MySQL reference manual, `max_connect_errors`); all clients
    /// have the proxy's. Envoy itself leaves out a machine that refuses connections, and of a database of RDS its status is known.
    pub counts: bool,
}

/// A GET by HTTP/1.1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Get {
    pub path: String,
    /// The host that is asked for: what serves several may have nothing to say, or no certificate, for its bare address.
    pub name: String,
    pub tls: bool,
}

/// While its rule is not awake, for so long it stands that a machine that counts serves: 60 connections in the longest settling
/// there is, and no longer than a route waits after a stop, since it may be of the machine's former life.
const SPARED: Duration = Duration::from_secs(60);

/// Remembers what was found last. Clones share their memory.
#[derive(Debug, Clone, Default)]
pub struct Prober {
    last: Arc<Mutex<BTreeMap<Check, Last>>>,
}

#[derive(Debug, Clone)]
struct Last {
    /// Failures in a row.
    failures: u32,
    found: Found,
    at: Instant,
}

/// What a check came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// By this very check.
    pub serves: bool,
    /// By this and the ones before.
    pub well: bool,
    /// A few words for the page.
    pub words: String,
}

impl Prober {
    /// Asks now, unless the last answer will do; `awake` says whether the machine's rule is.
    pub async fn ask(&self, now: Instant, check: &Check, awake: bool) -> Found {
        if check.counts
            && let Some(last) = self.last().get(check)
            && last.found.serves
            && (awake || now < last.at + SPARED)
        {
            return last.found.clone();
        }
        let result = clock::timeout(PATIENCE, probe(check)).await;
        let result = result.unwrap_or_else(|_| Err(format!("no answer from port {} within a second", check.port)));
        let mut last = self.last();
        let failures = match result {
            Ok(()) => 0,
            // One that was never well is not taken for it.
            Err(_) => last.get(check).map_or(FAILURES, |last| last.failures.saturating_add(1)),
        };
        let found = Found {
            serves: result.is_ok(),
            well: failures < FAILURES,
            words: result.err().unwrap_or_else(|| "healthy".to_owned()),
        };
        let found = last.entry(check.clone()).insert_entry(Last {
            failures,
            found,
            at: now,
        });
        found.get().found.clone()
    }

    fn last(&self) -> MutexGuard<'_, BTreeMap<Check, Last>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn probe(check: &Check) -> Result<(), String> {
    let port = check.port;
    #[cfg(test)]
    if let Some(world) = crate::played::world() {
        return world.probe(&check.host, port).await;
    }
    let connected = TcpStream::connect((check.host.as_str(), port)).await;
    let stream = connected.map_err(|error| format!("port {port}: {error}"))?;
    let Some(get) = &check.get else {
        return Ok(());
    };
    let answer = match get.tls {
        true => {
            let secured = secured(stream, &get.name).await;
            let stream = secured.map_err(|error| format!("port {port} does not speak TLS: {error}"))?;
            answer(stream, get).await
        }
        false => answer(stream, get).await,
    };
    match answer.map_err(|error| format!("port {port} does not speak HTTP: {error}"))? {
        status if status.is_server_error() => {
            Err(format!("GET {} at port {port} answers {}", get.path, status.as_u16()))
        }
        _ => Ok(()),
    }
}

/// As Envoy, which asks no machine for a certificate that is vouched for.
async fn secured(stream: TcpStream, name: &str) -> Result<TlsStream<TcpStream>, Box<dyn Error + Send + Sync>> {
    let name = ServerName::try_from(name.to_owned())?;
    Ok(TlsConnector::from(unverified::client()?).connect(name, stream).await?)
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    get: &Get,
) -> Result<StatusCode, Box<dyn Error + Send + Sync>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let talk = tokio::spawn(connection);
    let request = Request::get(&get.path)
        .header("host", &get.name)
        .header("user-agent", "proxymanager");
    let answer = sender.send_request(request.body(Empty::<Bytes>::new())?).await;
    talk.abort();
    Ok(answer?.status())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::body::Incoming;
    use hyper::server::conn::http1 as server;
    use hyper::service::service_fn;
    use rustls::ServerConfig;
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    async fn answering(answer: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut seen = [0; 1024];
                let _ = stream.read(&mut seen).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        port
    }

    fn check(port: u16, path: Option<&str>) -> Check {
        Check {
            host: "127.0.0.1".to_owned(),
            port,
            get: path.map(|path| Get {
                path: path.to_owned(),
                name: "site.test".to_owned(),
                tls: false,
            }),
            counts: false,
        }
    }

    #[tokio::test]
    async fn a_connection_or_an_answer_below_500_is_health() {
        let prober = Prober::default();
        let well = answering("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
        let ill = answering("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await;
        let no_http = answering("SSH-2.0-x\r\n").await;
        assert!(
            prober
                .ask(Instant::now(), &check(well, Some("/up")), false)
                .await
                .serves
        );
        assert!(prober.ask(Instant::now(), &check(ill, None), false).await.serves);
        let told = prober.ask(Instant::now(), &check(ill, Some("/up")), false).await;
        assert_eq!(
            (told.serves, told.words),
            (false, format!("GET /up at port {ill} answers 503"))
        );
        assert!(
            prober
                .ask(Instant::now(), &check(no_http, Some("/")), false)
                .await
                .words
                .contains("does not speak HTTP")
        );
    }

    /// A machine that answers by TLS, with a certificate that nobody vouches for, and what it was asked.
    async fn over_tls() -> (u16, mpsc::UnboundedReceiver<String>) {
        let own = rcgen::generate_simple_self_signed(["other.test".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap().with_no_client_auth();
        let config = config.with_single_cert(vec![own.cert.der().clone()], key.into());
        let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (told, asked) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let name = stream.get_ref().1.server_name().unwrap_or_default().to_owned();
                let told = told.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    told.send(format!("{name} {} {:?}", request.uri(), request.headers()["host"]))
                        .unwrap();
                    let status = if request.uri().path() == "/ill" { 500 } else { 401 };
                    let answer = hyper::Response::builder().status(status).body(Empty::<Bytes>::new());
                    async { Ok::<_, Infallible>(answer.unwrap()) }
                });
                let _ = server::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            }
        });
        (port, asked)
    }

    /// Red when such a machine was healthy as soon as its port was open.
    #[tokio::test]
    async fn a_machine_that_speaks_tls_is_asked_by_tls_for_its_host() {
        let prober = Prober::default();
        let (port, mut asked) = over_tls().await;
        for (path, words) in [
            ("/up?x=1", "healthy".to_owned()),
            ("/ill", format!("GET /ill at port {port} answers 500")),
        ] {
            let mut check = check(port, Some(path));
            check.get.as_mut().unwrap().tls = true;
            assert_eq!(prober.ask(Instant::now(), &check, false).await.words, words);
            assert_eq!(asked.recv().await.unwrap(), format!("site.test {path} \"site.test\""));
        }
        let mut plain = check(
            answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await,
            Some("/"),
        );
        plain.get.as_mut().unwrap().tls = true;
        let found = prober.ask(Instant::now(), &plain, false).await;
        assert!(!found.serves && found.words.contains("does not speak TLS"), "{found:?}");
    }

    /// Red when one failure was enough.
    #[tokio::test]
    async fn one_lost_check_takes_no_machine_out() {
        let prober = Prober::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let check = check(listener.local_addr().unwrap().port(), None);
        assert!(prober.ask(Instant::now(), &check, true).await.well);
        drop(listener);
        let mut found = Vec::new();
        for _ in 0..3 {
            let one = prober.ask(Instant::now(), &check, true).await;
            assert!(!one.serves);
            found.push(one.well);
        }
        assert_eq!(found, [true, true, false]);
        assert!(
            !Prober::default().ask(Instant::now(), &check, true).await.well,
            "never seen well"
        );
    }

    /// Red when it was asked as often while its rule is awake or settles, and when its last life's answer stood for the next.
    #[tokio::test]
    async fn a_machine_that_counts_connections_is_spared_once_it_serves() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut mysql = check(listener.local_addr().unwrap().port(), None);
        mysql.counts = true;
        let prober = Prober::default();
        let now = Instant::now();
        let serves = async |now, awake| prober.ask(now, &mysql, awake).await.serves;
        for awake in [false, false, true, true, false] {
            assert!(serves(now, awake).await);
        }
        listener.accept().await.unwrap();
        let again = tokio::select! { biased; _ = listener.accept() => true, () = tokio::task::yield_now() => false };
        assert!(!again, "it was asked once");
        drop(listener);
        let later = now + SPARED;
        assert!(serves(later, true).await, "the last answer stands while it is awake");
        assert!(!serves(later, false).await, "and not for its next life");
        assert!(!serves(later, true).await, "one that does not serve is asked");
    }
}
