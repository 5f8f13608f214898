//! TLS to servers: trusted authorities, our own certificate, and readable errors.
//!
//! Certificate and name are always checked; there is no switch to disable this and no fallback to plain text.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How a server is verified and how we authenticate. Files are read for each connection, so they can be replaced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsFiles {
    /// Authorities trusted to sign the server's certificate (PEM); `None`: those of the system.
    pub ca_file: Option<PathBuf>,
    /// Our certificate and its intermediates (PEM), if the server asks for one.
    pub cert_file: Option<PathBuf>,
    /// The key of our certificate (PEM).
    pub key_file: Option<PathBuf>,
    /// The name required in the server's certificate; `None`: the host connected to.
    pub server_name: Option<String>,
}

/// What a connection that breaks right after its handshake means: with TLS 1.3 a server looks at the client's certificate when the
/// client already takes the handshake for done.
#[derive(Debug)]
pub struct AfterHandshake(Arc<ClientCertificate>);

impl AfterHandshake {
    /// Why the server may have ended the connection, if it asked for a certificate.
    #[must_use]
    pub fn reason(&self) -> Option<&'static str> {
        match (self.0.in_vain(), self.0.answered()) {
            (true, _) => Some(NO_CERTIFICATE),
            (_, true) => Some("the server ended the connection after it saw our certificate (tls.cert_file)"),
            _ => None,
        }
    }
}

/// TLS over a connection to `host`.
///
/// # Errors
///
/// Which file is unusable, or what is wrong with the server's certificate; never a secret.
pub async fn connect<S>(stream: S, files: &TlsFiles, host: &str) -> Result<(TlsStream<S>, AfterHandshake), String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let terms = read_terms(files, host).await?;
    let handshake = TlsConnector::from(terms.config).connect(terms.name.clone(), stream);
    match handshake.await {
        Ok(stream) => Ok((stream, AfterHandshake(terms.asked))),
        Err(_) if terms.asked.in_vain() => Err(NO_CERTIFICATE.to_owned()),
        Err(error) => Err(explain(&error, &terms.name).0),
    }
}

/// What is missing where a server asks for a certificate in vain.
pub(crate) const NO_CERTIFICATE: &str = "the server asks for a client certificate (tls.cert_file and tls.key_file)";

/// The input of a handshake.
pub(crate) struct HandshakeSetup {
    /// The library's configuration.
    pub(crate) config: Arc<ClientConfig>,
    /// The name that the server must prove.
    pub(crate) name: ServerName<'static>,
    /// Records whether the server asked for a client certificate.
    pub(crate) asked: Arc<ClientCertificate>,
}

/// Presents our certificate, if configured, and records that it was requested.
#[derive(Debug)]
pub(crate) struct ClientCertificate {
    ours: Option<Arc<CertifiedKey>>,
    was: AtomicBool,
}

impl ClientCertificate {
    /// Whether the server asked for a certificate and none is configured.
    pub(crate) fn in_vain(&self) -> bool {
        self.ours.is_none() && self.was.load(Ordering::Relaxed)
    }

    /// Whether our certificate was sent to the server.
    pub(crate) fn answered(&self) -> bool {
        self.ours.is_some() && self.was.load(Ordering::Relaxed)
    }
}

impl ResolvesClientCert for ClientCertificate {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.was.store(true, Ordering::Relaxed);
        self.ours.clone()
    }

    fn has_certs(&self) -> bool {
        // With `false` the library would not call `resolve`, and the request would go unrecorded.
        true
    }
}

/// As [`terms`], off the threads of the runtime: a file may lie on a slow disk, and those of the system are many.
pub(crate) async fn read_terms(settings: &TlsFiles, host: &str) -> Result<HandshakeSetup, String> {
    let (settings, host) = (settings.clone(), host.to_owned());
    let read = tokio::task::spawn_blocking(move || terms(&settings, &host));
    read.await.unwrap_or_else(|error| Err(error.to_string()))
}

/// Reads the files and prepares a handshake with a server at `host`. Blocks.
///
/// # Errors
///
/// Which file is unusable, and why.
pub(crate) fn terms(settings: &TlsFiles, host: &str) -> Result<HandshakeSetup, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let ours = match (&settings.cert_file, &settings.key_file) {
        (None, None) => None,
        (Some(cert), Some(key)) => {
            let (chain, key) = (certificates(cert)?, private_key(key)?);
            let ours = CertifiedKey::from_der(chain, key, &provider)
                .map_err(|error| format!("{} cannot be used with its key: {error}", cert.display()))?;
            Some(Arc::new(ours))
        }
        _ => return Err("a client certificate needs both cert_file and key_file".to_owned()),
    };
    let asked = Arc::new(ClientCertificate {
        ours,
        was: AtomicBool::new(false),
    });
    let wanted = settings.server_name.as_deref().unwrap_or(host);
    let name = ServerName::try_from(wanted.to_owned()).map_err(|_| format!("{wanted:?} is not a name of a server"))?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots(settings)?)
        .with_client_cert_resolver(Arc::clone(&asked) as Arc<dyn ResolvesClientCert>);
    Ok(HandshakeSetup {
        config: Arc::new(config),
        name,
        asked,
    })
}

fn roots(settings: &TlsFiles) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match &settings.ca_file {
        Some(path) => {
            for authority in certificates(path)? {
                roots.add(authority).map_err(|error| {
                    format!(
                        "{} contains something that is not an authority: {error}",
                        path.display()
                    )
                })?;
            }
        }
        None => {
            // One unreadable authority does not invalidate the others.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err("this system names no authorities to trust; tls.ca_file can".to_owned());
            }
        }
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(format!("{} holds no certificate in PEM form", path.display())),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let pem = read(path)?;
    // The library's reason is left out: it could quote the file.
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| format!("{} holds no private key in PEM form", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// Why a handshake failed, and whether a retry could help.
pub(crate) fn explain(error: &std::io::Error, name: &ServerName<'_>) -> (String, bool) {
    let name = name.to_str();
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return (format!("the TLS handshake was cut off: {error}"), true);
    };
    let words = match error {
        rustls::Error::InvalidCertificate(error) => certificate(error, &name),
        rustls::Error::InvalidMessage(_) => "the server does not speak TLS at this port".to_owned(),
        rustls::Error::PeerIncompatible(_) => format!("the server speaks no TLS that is safe: {error}"),
        rustls::Error::AlertReceived(alert) => format!("the server ended the TLS handshake: {alert:?}"),
        other => format!("TLS failed: {other}"),
    };
    (words, false)
}

fn certificate(error: &CertificateError, name: &str) -> String {
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the server's certificate is signed by an authority that is not trusted here (tls.ca_file)".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("the server's certificate is not made out to {name} (tls.server_name)")
        }
        other => format!("the server's certificate is not valid: {other}"),
    }
}
