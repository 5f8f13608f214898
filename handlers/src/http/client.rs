//! The clients that calls share, so that connections are reused: one, and one more for each set of certificates.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use reqwest::{Certificate, Client, ClientBuilder, Identity, NoProxy, Proxy};
use runner_core::chain::chain;
use runner_core::function::HttpTls;

use super::{CONNECT_TIMEOUT, HttpSettings, guard};

/// Sets of certificates whose clients are kept; the oldest goes first. Each holds connections.
const MAX_CLIENTS: usize = 32;

/// Maximum bytes of a file with certificates: a system's whole list has about 200 kB.
const MAX_PEM_BYTES: u64 = 4 * 1024 * 1024;

/// Certificates, and when their files were last changed: a renewed certificate makes a new client.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    tls: HttpTls,
    changed: [Option<SystemTime>; 3],
}

/// The settings and the clients.
pub(crate) struct Caller {
    pub(super) settings: Arc<HttpSettings>,
    clients: Mutex<Vec<(Key, Client)>>,
}

impl Caller {
    pub(crate) fn new(settings: HttpSettings) -> Self {
        Self {
            settings: Arc::new(settings),
            clients: Mutex::default(),
        }
    }

    /// The client for calls with these certificates.
    ///
    /// # Errors
    ///
    /// What is wrong with a file, or with the proxy.
    pub(super) fn client(&self, tls: &HttpTls) -> Result<Client, String> {
        let changed = [&tls.ca_file, &tls.cert_file, &tls.key_file].map(|file| modified(file.as_deref()));
        let key = Key {
            tls: tls.clone(),
            changed,
        };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = clients.iter().find(|(known, _)| *known == key) {
            return Ok(client.clone());
        }
        let client = self.make(tls)?;
        clients.retain(|(known, _)| known.tls != *tls);
        if clients.len() >= MAX_CLIENTS {
            clients.remove(0);
        }
        clients.push((key, client.clone()));
        Ok(client)
    }

    fn make(&self, tls: &HttpTls) -> Result<Client, String> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Fails only if another thread was faster, which is as good.
            rustls::crypto::ring::default_provider().install_default().ok();
        }
        let client = Client::builder()
            .user_agent(self.settings.user_agent.as_str())
            .connect_timeout(CONNECT_TIMEOUT)
            // Followed by `follow`, which checks each address.
            .redirect(reqwest::redirect::Policy::none())
            .dns_resolver(guard::Resolver::new(Arc::clone(&self.settings)));
        let client = with_certificates(self.with_proxy(client)?, tls)?;
        client.build().map_err(|e| chain(&e))
    }

    /// Through the proxy of the settings, never through one of the environment: it resolves names itself.
    fn with_proxy(&self, client: ClientBuilder) -> Result<ClientBuilder, String> {
        let client = client.no_proxy();
        let Some(proxy) = &self.settings.proxy else {
            return Ok(client);
        };
        let url = proxy.url.read()?;
        // The error could show a password.
        let wrong = |_| "handlers.http.proxy: the URL cannot be used".to_owned();
        let direct = NoProxy::from_string(&proxy.except.join(","));
        Ok(client.proxy(Proxy::all(url.as_str()).map_err(wrong)?.no_proxy(direct)))
    }
}

fn modified(file: Option<&Path>) -> Option<SystemTime> {
    file?.metadata().ok()?.modified().ok()
}

fn with_certificates(mut client: ClientBuilder, tls: &HttpTls) -> Result<ClientBuilder, String> {
    if let Some(file) = &tls.ca_file {
        let wrong = |why: &dyn std::fmt::Display| format!("http.tls.ca_file {}: {why}", file.display());
        let authorities = Certificate::from_pem_bundle(&pem(file)?).map_err(|e| wrong(&chain(&e)))?;
        if authorities.is_empty() {
            return Err(wrong(&"it holds no certificate"));
        }
        client = client.tls_certs_only(authorities);
    }
    if let Some(file) = &tls.cert_file {
        let mut both = pem(file)?;
        if let Some(key) = &tls.key_file {
            both.push(b'\n');
            both.extend(pem(key)?);
        }
        let identity =
            Identity::from_pem(&both).map_err(|e| format!("http.tls.cert_file {}: {}", file.display(), chain(&e)))?;
        client = client.identity(identity);
    }
    Ok(client)
}

fn pem(file: &Path) -> Result<Vec<u8>, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("{}: {why}", file.display());
    let found = file.metadata().map_err(|e| wrong(&e))?;
    if !found.is_file() || found.len() > MAX_PEM_BYTES {
        return Err(wrong(&"it is not a file with certificates"));
    }
    std::fs::read(file).map_err(|e| wrong(&e))
}
