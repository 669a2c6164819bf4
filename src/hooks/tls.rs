//! Whose certificates are trusted.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// TLS with certificates always verified, against the authorities in `ca_file` or else the platform's. The error
/// says what to change.
pub fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let (source, certificates) = match ca_file {
        Some(path) => (path.display().to_string(), read(path)?),
        None => (
            "the platform's store".to_owned(),
            rustls_native_certs::load_native_certs().certs,
        ),
    };
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        return Err(format!(
            "https:// backends cannot be verified: {source} has no certificates of authorities; install the \
             package ca-certificates, or set hooks.ca_file"
        ));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("no TLS: {error}"))?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    certificates.map_err(|error| {
        let path = path.display();
        format!("hooks.ca_file = {path}: {error}; name a file with certificates in PEM")
    })
}
