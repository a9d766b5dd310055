//! TCP behind the proxies and before them: one stream of bytes, and connections that carry a byte.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const BLOCK: usize = 256 * 1024;
/// What a stream takes to get up to speed.
const RUN_UP: Duration = Duration::from_millis(100);
const DIALLERS: usize = 16;
/// Nothing here takes this long; it ends a run that hangs.
const LONG: Duration = Duration::from_secs(10);

/// Sends to whoever connects, without end. Its port.
pub fn source() -> u16 {
    serve(|mut stream| {
        thread::spawn(move || {
            let block = vec![0x5a; BLOCK];
            while stream.write_all(&block).is_ok() {}
        });
    })
}

/// Sends one byte to whoever connects and closes. Its port.
pub fn greeter() -> u16 {
    serve(|mut stream| drop(stream.write_all(b"!")))
}

fn serve(each: impl Fn(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || listener.incoming().flatten().for_each(each));
    port
}

/// Of one stream from a [`source`].
///
/// # Errors
/// The stream ended.
pub fn bytes_per_second(at: SocketAddr, during: Duration) -> io::Result<f64> {
    let mut stream = connect(at)?;
    let mut block = vec![0; BLOCK];
    let mut read_for = |time: Duration| {
        let begin = Instant::now();
        let mut bytes = 0;
        while begin.elapsed() < time {
            match stream.read(&mut block)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => bytes += more,
            }
        }
        Ok(bytes as f64 / begin.elapsed().as_secs_f64())
    };
    read_for(RUN_UP)?;
    read_for(during)
}

/// To a [`greeter`], one after the other by each of some clients, read to their end.
///
/// # Errors
/// A connection was refused or brought no byte.
pub fn connections_per_second(at: SocketAddr, during: Duration) -> io::Result<f64> {
    let (done, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let begin = Instant::now();
    thread::scope(|scope| {
        let dial = || -> io::Result<()> {
            while !over.load(Ordering::Relaxed) {
                let mut said = Vec::new();
                connect(at)?.read_to_end(&mut said)?;
                if said != b"!" {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        };
        let clients: Vec<_> = (0..DIALLERS).map(|_| scope.spawn(dial)).collect();
        thread::sleep(during);
        over.store(true, Ordering::Relaxed);
        clients
            .into_iter()
            .try_for_each(|client| client.join().expect("a client does not panic"))
    })?;
    Ok(done.into_inner() as f64 / begin.elapsed().as_secs_f64())
}

/// # Errors
/// Nobody is there.
pub fn connect(at: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&at, LONG)?;
    stream.set_read_timeout(Some(LONG))?;
    Ok(stream)
}
