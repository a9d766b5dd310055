//! What clients of a host are shown, asked as they ask. A handshake is no request, and wakes nothing.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};

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
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(words)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Looking(provider)))
        .with_no_client_auth();
    let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
    let mut client = ClientConnection::new(Arc::new(config), name).map_err(words)?;
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

/// Takes whatever it is shown: it is looked at, and nothing is said to its owner.
#[derive(Debug)]
struct Looking(Arc<CryptoProvider>);

impl ServerCertVerifier for Looking {
    fn verify_server_cert(
        &self,
        _first: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
