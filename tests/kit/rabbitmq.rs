//! A RabbitMQ for tests.
//!
//! A start takes several seconds of CPU, so most tests share one server and use queues of names of their own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use nix::sys::signal::Signal;

use super::children::{Child, free_port, scratch};
use super::tls::{Authority, Pair};

/// How long a start may take on a busy machine.
const START: Duration = Duration::from_secs(180);

/// Where the server's script is; that on the path wants to change the user.
const SCRIPTS: &str = "/usr/lib/rabbitmq/bin";

/// Why there is none on this machine.
pub(super) fn absent() -> Option<String> {
    let there = Path::new(SCRIPTS).join("rabbitmq-server").exists();
    (!there).then(|| "rabbitmq-server is not installed".to_owned())
}

/// The shared server, started on first use. User `guest`, password `guest`, vhost `/`.
pub fn rabbitmq() -> &'static RabbitServer {
    static SHARED: LazyLock<RabbitServer> = LazyLock::new(RabbitServer::start);
    &SHARED
}

/// A `rabbitmq-server` process and the name service of its own.
#[derive(Debug)]
pub struct RabbitServer {
    child: Child,
    _names: Child,
    dir: PathBuf,
    names_port: u16,
    peers_port: u16,
    /// Its port on 127.0.0.1.
    pub port: u16,
}

impl RabbitServer {
    /// A separate server, for tests that stop it.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// One that also speaks TLS with this certificate, and demands one of clients; and its port for that.
    pub fn start_tls(authority: &Authority, own: &Pair) -> (Self, u16) {
        let port = free_port();
        let lines = format!(
            "listeners.ssl.1 = 127.0.0.1:{port}\n\
             ssl_options.cacertfile = {}\n\
             ssl_options.certfile = {}\n\
             ssl_options.keyfile = {}\n\
             ssl_options.verify = verify_peer\n\
             ssl_options.fail_if_no_peer_cert = true\n",
            authority.file().display(),
            own.cert.display(),
            own.key.display()
        );
        (Self::start_with(&lines), port)
    }

    /// A separate server with these lines in its configuration.
    fn start_with(lines: &str) -> Self {
        let dir = scratch("rabbitmq");
        let (port, names_port, peers_port) = (free_port(), free_port(), free_port());
        for (file, text) in [
            ("plugins", "[]."),
            ("env", ""),
            ("rabbitmq.conf", format!("log.console.level = info\n{lines}").as_str()),
        ] {
            std::fs::write(dir.join(file), text).expect("a file of the server");
        }
        let names = Child::start("epmd", None, Signal::SIGKILL, &dir.join("names.log"), |command| {
            command.args(["-port", &names_port.to_string(), "-address", "127.0.0.1"]);
        });
        let child = launch(&dir, port, names_port, peers_port);
        Self {
            child,
            _names: names,
            dir,
            names_port,
            peers_port,
            port,
        }
    }

    /// `amqp://guest:guest@127.0.0.1:PORT/%2f`.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    /// The section `rabbitmq:` of a configuration, with the connection `main`.
    pub fn yaml(&self) -> String {
        format!("rabbitmq:\n  connections:\n    main: {}\n", self.url())
    }

    /// The process, for signals and its log.
    pub fn child(&self) -> &Child {
        &self.child
    }

    /// Kills it as a power cut would.
    pub fn kill9(&self) {
        self.child.kill9();
    }

    /// Starts it again on the same port and directory.
    pub fn start_again(&mut self) {
        self.child = launch(&self.dir, self.port, self.names_port, self.peers_port);
    }

    /// Runs `rabbitmqctl` with these arguments.
    pub fn control(&self, arguments: &[&str]) {
        let mut command = Command::new(Path::new(SCRIPTS).join("rabbitmqctl"));
        surroundings(&mut command, &self.dir, self.port, self.names_port, self.peers_port);
        let output = command.args(arguments).output().expect("rabbitmqctl");
        let said = [output.stdout, output.stderr].concat();
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&said)
        );
    }

    /// A channel on a connection of its own.
    pub async fn channel(&self) -> RabbitChannel {
        let url = self.url();
        let made = Connection::connect(&url, ConnectionProperties::default());
        let made = tokio::time::timeout(Duration::from_secs(20), made).await;
        let connection = made.expect("an answer of RabbitMQ").expect("a connection to RabbitMQ");
        let channel = connection.create_channel().await.expect("a channel");
        let confirms = channel.confirm_select(ConfirmSelectOptions::default());
        confirms.await.expect("confirms");
        RabbitChannel {
            channel,
            _connection: connection,
        }
    }
}

/// A name for a queue of one test.
pub fn queue_name(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A channel, and the connection that it lives by.
pub struct RabbitChannel {
    /// The channel, with confirms.
    pub channel: Channel,
    _connection: Connection,
}

impl RabbitChannel {
    /// Makes a durable queue.
    pub async fn queue(&self, name: &str, arguments: FieldTable) {
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let made = self.channel.queue_declare(name.into(), options, arguments);
        made.await.expect("a queue");
    }

    /// Consumers of a queue.
    pub async fn consumers(&self, name: &str) -> u32 {
        self.state(name).await.consumer_count()
    }

    /// Messages of a queue that no consumer holds.
    pub async fn ready(&self, name: &str) -> u32 {
        self.state(name).await.message_count()
    }

    async fn state(&self, name: &str) -> lapin::Queue {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let queue = self.channel.queue_declare(name.into(), options, FieldTable::default());
        queue.await.expect("the queue")
    }

    /// Publishes a persistent message to a queue and waits until the server has it.
    pub async fn publish(&self, queue: &str, id: Option<&str>, body: &[u8]) {
        let mut properties = BasicProperties::default().with_delivery_mode(2);
        if let Some(id) = id {
            properties = properties.with_message_id(id.into());
        }
        let sent = self.send("", queue, properties, body).await;
        assert!(sent, "RabbitMQ did not take a message");
    }

    /// Publishes to an exchange; whether the server confirmed it.
    pub async fn send(&self, exchange: &str, key: &str, properties: BasicProperties, body: &[u8]) -> bool {
        let options = BasicPublishOptions::default();
        let sent = self
            .channel
            .basic_publish(exchange.into(), key.into(), options, body, properties);
        let confirmed = match sent.await {
            Ok(sent) => sent.await,
            Err(error) => Err(error),
        };
        confirmed.is_ok_and(|confirmation| confirmation.is_ack())
    }
}

fn surroundings(command: &mut Command, dir: &Path, port: u16, names: u16, peers: u16) {
    command
        .current_dir(dir)
        .env("HOME", dir)
        .env("RABBITMQ_NODENAME", format!("runner{port}@localhost"))
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", port.to_string())
        .env("RABBITMQ_DIST_PORT", peers.to_string())
        .env("ERL_EPMD_PORT", names.to_string())
        .env("RABBITMQ_LOGS", "-")
        .env("RABBITMQ_MNESIA_BASE", dir.join("data"))
        .env("RABBITMQ_LOG_BASE", dir.join("logs"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", dir.join("plugins"))
        .env("RABBITMQ_CONFIG_FILE", dir.join("rabbitmq"))
        .env("RABBITMQ_CONF_ENV_FILE", dir.join("env"))
        .env("RABBITMQ_GENERATED_CONFIG_DIR", dir.join("generated"))
        .env("RABBITMQ_PID_FILE", dir.join("pid"))
        // The script becomes the server instead of waiting beside it, so that signals reach it.
        .env("RUNNING_UNDER_SYSTEMD", "true")
        .env(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "-start_epmd false +S 1:1 +sbwt none",
        );
}

fn launch(dir: &Path, port: u16, names: u16, peers: u16) -> Child {
    let program = Path::new(SCRIPTS).join("rabbitmq-server");
    let program = program.to_str().expect("a path that is text");
    let child = Child::start(program, None, Signal::SIGKILL, &dir.join("log"), |command| {
        surroundings(command, dir, port, names, peers);
    });
    child.wait_ready(START, || greets(port));
    child
}

/// Whether the server answers the header of the protocol with its first method.
fn greets(port: u16) -> bool {
    let greeting = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"AMQP\x00\x00\x09\x01")?;
        let mut frame = [0; 1];
        stream.read_exact(&mut frame)?;
        Ok(frame == [1])
    };
    greeting().unwrap_or(false)
}
