//! The wire to an instance, with what passes counted while it passes.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::local::shared::Shared;

/// A connection to the program of one instance.
pub struct Counted {
    stream: TcpStream,
    instance: String,
    shared: Arc<Shared>,
}

impl Counted {
    pub fn new(stream: TcpStream, instance: &str, shared: &Arc<Shared>) -> Self {
        Self {
            stream,
            instance: instance.to_owned(),
            shared: Arc::clone(shared),
        }
    }

    fn count(&self, into: usize, out: usize) {
        let now = self.shared.clock.now();
        let mut world = self.shared.world();
        world.count_bytes(now, &self.instance, into as u64, out as u64);
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let read = buf.filled().len() - before;
        if read > 0 {
            self.count(0, read);
        }
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = &polled {
            self.count(*written, 0);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
