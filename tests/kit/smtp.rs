//! A mail server for tests: takes messages, or misbehaves as its script says. Also part of the tests of `handlers`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// When the connection is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secured {
    Never,
    FromTheStart,
    ByStartTls,
}

/// A message as it arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReceivedMail {
    pub from: String,
    pub to: Vec<String>,
    /// Head and body as one text, without the stuffing of dots.
    pub text: String,
    /// User and password.
    pub login: Option<(String, String)>,
    pub encrypted: bool,
}

/// A running server.
pub struct SmtpSink {
    /// Its port on 127.0.0.1; its certificate is for `localhost`.
    pub port: u16,
    /// The certificate, in PEM.
    pub ca: String,
    log: Arc<Mutex<SinkLog>>,
}

#[derive(Default)]
struct SinkLog {
    mails: Vec<ReceivedMail>,
    commands: Vec<String>,
}

/// What to answer instead of the usual, by the beginning of a command: `greeting` and `.` count as commands. The answer
/// `close` closes the connection, `silence` never answers.
pub type Script = BTreeMap<&'static str, &'static str>;

struct Session {
    secured: Secured,
    script: Script,
    acceptor: TlsAcceptor,
    log: Arc<Mutex<SinkLog>>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection that is to be secured now, or one that is over.
enum End {
    StartTls,
    Closed,
}

impl SmtpSink {
    /// Starts one.
    pub async fn start(secured: Secured, script: &[(&'static str, &'static str)]) -> Self {
        let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_no_client_auth()
            .with_single_cert(vec![signed.cert.der().clone()], key)
            .expect("a server's TLS");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let sink = Self {
            port: listener.local_addr().expect("its address").port(),
            ca: signed.cert.pem(),
            log: Arc::default(),
        };
        let session = Arc::new(Session {
            secured,
            script: script.iter().copied().collect(),
            acceptor: TlsAcceptor::from(Arc::new(config)),
            log: Arc::clone(&sink.log),
        });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let session = Arc::clone(&session);
                tokio::spawn(async move { session.serve(stream).await });
            }
        });
        sink
    }

    /// What it accepted.
    pub fn mails(&self) -> Vec<ReceivedMail> {
        self.log.lock().expect("its log").mails.clone()
    }

    /// Every command, in the order of arrival.
    pub fn commands(&self) -> Vec<String> {
        self.log.lock().expect("its log").commands.clone()
    }
}

impl Session {
    async fn serve(&self, stream: TcpStream) -> Option<()> {
        if self.secured == Secured::FromTheStart {
            let mut stream = BufReader::new(self.acceptor.accept(stream).await.ok()?);
            self.converse(&mut stream, true, true).await;
            return Some(());
        }
        let mut stream = BufReader::new(stream);
        if let End::StartTls = self.converse(&mut stream, false, true).await {
            let mut stream = BufReader::new(self.acceptor.accept(stream.into_inner()).await.ok()?);
            self.converse(&mut stream, true, false).await;
        }
        Some(())
    }

    /// The answer of the script, or this one; `None` if the connection is to be closed.
    async fn answer(&self, stream: &mut BufReader<impl Stream>, command: &str, usual: &str) -> Option<bool> {
        let scripted = self.script.iter().find(|(start, _)| command.starts_with(**start));
        let answer = scripted.map_or(usual, |(_, answer)| answer);
        match answer {
            "close" => return None,
            "silence" => std::future::pending::<()>().await,
            _ => (),
        }
        stream.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
        stream.flush().await.ok()?;
        Some(answer.starts_with(['2', '3']))
    }

    async fn converse(&self, stream: &mut BufReader<impl Stream>, encrypted: bool, greets: bool) -> End {
        self.talk(stream, encrypted, greets).await.unwrap_or(End::Closed)
    }

    async fn talk(&self, stream: &mut BufReader<impl Stream>, encrypted: bool, greets: bool) -> Option<End> {
        let mut mail = ReceivedMail {
            encrypted,
            ..ReceivedMail::default()
        };
        if greets {
            self.answer(stream, "greeting", "220 sink").await?;
        }
        loop {
            let command = line(stream).await?;
            self.log.lock().expect("its log").commands.push(command.clone());
            let upper = command.to_uppercase();
            let argument = || {
                let inner = command.split(['<', '>']).nth(1);
                inner.unwrap_or_default().to_owned()
            };
            if upper.starts_with("EHLO") {
                let offers = match self.secured {
                    Secured::ByStartTls if !encrypted => "250-sink\r\n250 STARTTLS",
                    _ => "250-sink\r\n250-8BITMIME\r\n250 AUTH PLAIN LOGIN",
                };
                self.answer(stream, "EHLO", offers).await?;
            } else if upper.starts_with("STARTTLS") {
                if self.answer(stream, "STARTTLS", "220 go on").await? {
                    return Some(End::StartTls);
                }
            } else if let Some(plain) = command.strip_prefix("AUTH PLAIN ") {
                if self.answer(stream, "AUTH", "235 welcome").await? {
                    mail.login = login(plain);
                }
            } else if upper.starts_with("MAIL FROM") {
                mail.from = argument();
                self.answer(stream, &command, "250 ok").await?;
            } else if upper.starts_with("RCPT TO") {
                if self.answer(stream, &command, "250 ok").await? {
                    mail.to.push(argument());
                }
            } else if upper == "DATA" {
                if !self.answer(stream, "DATA", "354 go on").await? {
                    continue;
                }
                mail.text = text(stream).await?;
                if self.answer(stream, ".", "250 2.0.0 taken as 1").await? {
                    self.log.lock().expect("its log").mails.push(mail.clone());
                }
            } else {
                self.answer(stream, &command, "221 bye").await?;
                return Some(End::Closed);
            }
        }
    }
}

async fn line(stream: &mut BufReader<impl Stream>) -> Option<String> {
    let mut line = String::new();
    let read = stream.read_line(&mut line).await.ok()?;
    (read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Until the line with one dot.
async fn text(stream: &mut BufReader<impl Stream>) -> Option<String> {
    let mut text = String::new();
    loop {
        let line = line(stream).await?;
        if line == "." {
            return Some(text);
        }
        text.push_str(line.strip_prefix('.').unwrap_or(&line));
        text.push('\n');
    }
}

/// `\0user\0password` in base64.
fn login(encoded: &str) -> Option<(String, String)> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = String::new();
    for byte in encoded.trim_end_matches('=').bytes() {
        let digit = DIGITS.iter().position(|d| *d == byte)?;
        bits.push_str(&format!("{digit:06b}"));
    }
    let bytes = bits.as_bytes().chunks_exact(8);
    let bytes: Vec<u8> = bytes
        .filter_map(|byte| u8::from_str_radix(std::str::from_utf8(byte).ok()?, 2).ok())
        .collect();
    let text = String::from_utf8(bytes).ok()?;
    let mut parts = text.split('\0').skip(1);
    Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
}
