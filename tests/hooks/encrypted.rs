//! Backends behind TLS.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use longwire::hooks::{HookOutcome, HooksSettings, Unavailable};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::backend::{Backend, answer};
use crate::{Hooks, ok, settings};

/// An authority, and a backend whose certificate it signed for `name`.
fn signed_for(name: &str) -> (String, Backend) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let backend = Backend::start_with(
        move |stream| {
            let tls = ServerConnection::new(Arc::clone(&config)).unwrap();
            Some(StreamOwned::new(tls, stream))
        },
        |_, to| answer(to, 200, "{}"),
    );
    (authority.pem(), backend)
}

/// A file of its own for each test.
fn file(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, text).unwrap();
    path
}

fn trusting(backend: &Backend, ca_file: PathBuf) -> HooksSettings {
    HooksSettings {
        ca_file: Some(ca_file),
        ..settings(&[format!("https://localhost:{}/", backend.port)])
    }
}

#[test]
fn a_certificate_of_a_trusted_authority_is_good() {
    let (authority, backend) = signed_for("localhost");
    let ca_file = file("hooks-trusted.pem", &authority);
    let hooks = Hooks::start(&trusting(&backend, ca_file));
    assert_eq!(hooks.call(0), ok("{}"));
    assert_eq!(hooks.call(0), ok("{}"));
    assert_eq!(backend.connections(), 1);
}

#[test]
fn a_certificate_of_another_authority_or_name_is_not() {
    let tls = HookOutcome::Unavailable(Unavailable::Tls);
    let (_, backend) = signed_for("localhost");
    let (stranger, _) = signed_for("localhost");
    let hooks = Hooks::start(&trusting(&backend, file("hooks-stranger.pem", &stranger)));
    assert_eq!(hooks.call(0), tls);
    drop(hooks);
    let (authority, backend) = signed_for("other.example");
    let hooks = Hooks::start(&trusting(&backend, file("hooks-name.pem", &authority)));
    assert_eq!(hooks.call(0), tls);
    assert_eq!(backend.requests().len(), 0, "nothing was sent");
}

#[test]
fn a_file_without_certificates_is_named() {
    let (_, backend) = signed_for("localhost");
    let settings = trusting(&backend, file("hooks-empty.pem", ""));
    let (sender, _news) = std::sync::mpsc::channel();
    let text = longwire::hooks::start(&settings, crate::Sink(sender)).unwrap_err();
    assert!(text.contains("hooks-empty.pem"), "{text}");
}
