//! Certificates, and TLS in both directions.

use std::collections::BTreeSet;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{ConfigSource, TransportSocket};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, Secret,
    SubjectAltNameMatcher, TlsCertificate, TlsParameters, UpstreamTlsContext,
    common_tls_context::ValidationContextType, secret, subject_alt_name_matcher::SanType, tls_parameters::TlsProtocol,
};
use envoy_types::pb::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};

use super::super::view::{UpstreamTls, View};
use super::super::wire::{any, by_ads, duration, inline, tls_socket};
use super::{Kind, Snapshot};

/// How long a listener waits for its certificates before it opens without.
const SOON: Duration = Duration::from_secs(2);

pub fn add(snapshot: &mut Snapshot, view: &View) {
    for certificate in view.edge.certificates.iter().filter(|one| !one.chain_pem.is_empty()) {
        let secret = Secret {
            name: certificate.name.clone(),
            r#type: Some(secret::Type::TlsCertificate(TlsCertificate {
                certificate_chain: inline(&certificate.chain_pem),
                private_key: inline(&certificate.key_pem),
                ..Default::default()
            })),
        };
        snapshot.put(
            Kind::Secret,
            certificate.name.clone(),
            any(secret),
            BTreeSet::new(),
            None,
        );
    }
}

/// TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1, with the certificate of this name.
pub fn downstream(certificate: &str) -> Option<TransportSocket> {
    tls_socket(any(DownstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_params: Some(TlsParameters {
                tls_minimum_protocol_version: TlsProtocol::TlSv12.into(),
                ..Default::default()
            }),
            tls_certificate_sds_secret_configs: vec![SdsSecretConfig {
                name: certificate.to_owned(),
                // One that is missing must not keep the other listeners from opening.
                sds_config: by_ads().map(|source| ConfigSource {
                    initial_fetch_timeout: duration(SOON),
                    ..source
                }),
            }],
            alpn_protocols: vec!["h2".to_owned(), "http/1.1".to_owned()],
            ..Default::default()
        }),
        ..Default::default()
    }))
}

/// A server of gRPC wants HTTP/2 to be agreed on by ALPN (RFC 9113, 3.2).
pub fn upstream(tls: &UpstreamTls, http2: bool) -> Option<TransportSocket> {
    let names = tls.sni.iter().map(|name| SubjectAltNameMatcher {
        san_type: SanType::Dns.into(),
        matcher: Some(StringMatcher {
            match_pattern: Some(MatchPattern::Exact(name.clone())),
            ..Default::default()
        }),
        ..Default::default()
    });
    let validation = tls.authority_pem.as_ref().map(|authority| {
        ValidationContextType::ValidationContext(CertificateValidationContext {
            trusted_ca: inline(authority),
            match_typed_subject_alt_names: names.collect(),
            ..Default::default()
        })
    });
    tls_socket(any(UpstreamTlsContext {
        sni: tls.sni.clone().unwrap_or_default(),
        auto_host_sni: tls.sni.is_none(),
        auto_sni_san_validation: tls.sni.is_none() && tls.authority_pem.is_some(),
        common_tls_context: Some(CommonTlsContext {
            // Towards a machine Envoy's own highest is 1.2.
            tls_params: Some(TlsParameters {
                tls_minimum_protocol_version: TlsProtocol::TlSv12.into(),
                tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
                ..Default::default()
            }),
            validation_context_type: validation,
            alpn_protocols: http2.then(|| "h2".to_owned()).into_iter().collect(),
            ..Default::default()
        }),
        ..Default::default()
    }))
}
