//! What clients of a host are shown, asked as they ask. A handshake is no request, and wakes nothing.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConnection, Error};

use crate::proxy::unverified;

/// On this very machine.
const PATIENCE: Duration = Duration::from_secs(4);

/// The certificate that a client of this host is shown.
///
/// # Errors
/// Why there is none, in words.
pub async fn shown(at: SocketAddr, host: String) -> Result<CertificateDer<'static>, String> {
    let talk = tokio::task::spawn_blocking(move || talk(at, host));
    talk.await.map_err(|error| error.to_string())?
}

fn talk(at: SocketAddr, host: String) -> Result<CertificateDer<'static>, String> {
    let words = |error: Error| error.to_string();
    let config = unverified::client().map_err(words)?;
    let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
    let mut client = ClientConnection::new(config, name).map_err(words)?;
    let mut stream = TcpStream::connect_timeout(&at, PATIENCE).map_err(|error| error.to_string())?;
    let limits = [
        stream.set_read_timeout(Some(PATIENCE)),
        stream.set_write_timeout(Some(PATIENCE)),
    ];
    limits
        .into_iter()
        .collect::<Result<(), _>>()
        .map_err(|error| error.to_string())?;
    while client.is_handshaking() {
        client.complete_io(&mut stream).map_err(|error| error.to_string())?;
    }
    let chain = client.peer_certificates().and_then(|chain| chain.first());
    chain
        .map(|first| first.clone().into_owned())
        .ok_or_else(|| "no certificate was shown".to_owned())
}
