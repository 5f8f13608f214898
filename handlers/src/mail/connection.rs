//! A connection to the mail server that is ready for a message: secured, greeted and logged in.
//!
//! What goes wrong here is no fault of the message, so it is never final at once.

use std::time::Duration;

use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use runner_core::chain::chain;
use runner_sdk::{Ctx, TaskError};

use super::{MailSettings, MailTls};
use crate::exhausted;
use crate::misconfigured::misconfigured;

/// How long connecting may take: a server that does not answer for longer is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long saying goodbye may take; the message is accepted by then.
pub(super) const QUIT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an answer may take; servers delay some on purpose, to tire senders of junk.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Opens it.
pub(super) async fn open(settings: &MailSettings, cx: &Ctx) -> Result<AsyncSmtpConnection, TaskError> {
    let MailSettings { host, port, .. } = settings;
    let wrong = |why: String| misconfigured(format!("{host}:{port}: {why}"), cx);
    let login = match &settings.login {
        Some(login) => Some(login.read().await.map_err(wrong)?),
        None => None,
    };
    let name = hello();
    let tls = match settings.tls {
        MailTls::None => None,
        MailTls::Implicit | MailTls::StartTls => Some(trust(settings).await.map_err(wrong)?),
    };
    let (implicit, later) = match settings.tls {
        MailTls::Implicit => (tls, None),
        MailTls::StartTls | MailTls::None => (None, tls),
    };
    let connecting =
        AsyncSmtpConnection::connect_tokio1((host.as_str(), *port), Some(CONNECT_TIMEOUT), &name, implicit, None);
    let mut connection = in_time(connecting).await.map_err(|e| e.into_error(settings, cx))?;
    if let Some(tls) = later {
        if !connection.can_starttls() {
            tokio::time::timeout(QUIT_TIMEOUT, connection.abort()).await.ok();
            let why = "the server offers no STARTTLS; mail.tls: implicit is for servers with TLS from the start";
            return Err(wrong(why.to_owned()));
        }
        let upgraded = in_time(connection.starttls(tls, &name)).await;
        upgraded.map_err(|e| e.into_error(settings, cx))?;
    }
    if let Some((user, password)) = login {
        let credentials = Credentials::new(user, password);
        let accepted = in_time(connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials)).await;
        accepted.map_err(|e| e.into_error(settings, cx))?;
    }
    Ok(connection)
}

/// Waits for an answer.
pub(super) async fn in_time<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<T, SmtpFailure> {
    match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
        Ok(answer) => answer.map_err(SmtpFailure::Refused),
        Err(_) => Err(SmtpFailure::Late),
    }
}

/// Why there is no good answer.
#[derive(Debug)]
pub(super) enum SmtpFailure {
    /// A bad answer, or a broken connection.
    Refused(Error),
    /// None within the time.
    Late,
}

impl SmtpFailure {
    /// Whether the server said that trying again cannot help.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Refused(error) if error.is_permanent())
    }

    /// Whether the server gave any answer, so that the connection still serves.
    pub(super) fn is_answer(&self) -> bool {
        matches!(self, Self::Refused(error) if error.is_permanent() || error.is_transient())
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::Refused(error) => chain(error),
            Self::Late => format!("no answer within {ANSWER_TIMEOUT:?}"),
        }
    }

    /// The error of a connection that could not be made ready.
    pub(super) fn into_error(self, settings: &MailSettings, cx: &Ctx) -> TaskError {
        let text = format!("{}:{}: {}", settings.host, settings.port, self.text());
        match self {
            Self::Refused(error) => match exhausted::cause(&error) {
                Some(cause) => exhausted::put_off(&format!("{}: {cause}", settings.host), cx),
                // A password, certificate or address that is refused may be about to be corrected.
                None if error.is_permanent() || error.is_client() || is_tls(&error) => misconfigured(text, cx),
                None => TaskError::retry(text),
            },
            Self::Late => TaskError::retry(text),
        }
    }
}

/// Whether TLS failed, such as by a certificate that is not trusted, and not the connection under it.
fn is_tls(error: &Error) -> bool {
    let chain = std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |e| e.source());
    let mut io = chain.filter_map(|e| e.downcast_ref::<std::io::Error>());
    error.is_tls() || io.any(|e| e.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()))
}

/// The name by which this host greets.
fn hello() -> ClientId {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let plain = |name: &String| {
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        !name.is_empty() && name.chars().all(letters)
    };
    name.filter(plain).map_or_else(ClientId::default, ClientId::Domain)
}

/// Whom to trust. Files are read for each connection, so that a new authority needs no restart; off the threads of the
/// runtime, as there may be hundreds.
async fn trust(settings: &MailSettings) -> Result<TlsParameters, String> {
    let (host, ca_file) = (settings.host.clone(), settings.ca_file.clone());
    let read = tokio::task::spawn_blocking(move || {
        let mut parameters = TlsParameters::builder(host);
        if let Some(path) = ca_file {
            let wrong = |why: String| format!("mail.ca_file {}: {why}", path.display());
            let pem = std::fs::read(&path).map_err(|e| wrong(e.to_string()))?;
            let certificate = Certificate::from_pem(&pem).map_err(|e| wrong(chain(&e)))?;
            parameters = parameters
                .certificate_store(CertificateStore::None)
                .add_root_certificate(certificate);
        }
        parameters.build_rustls().map_err(|e| chain(&e))
    });
    read.await.unwrap_or_else(|e| Err(e.to_string()))
}
