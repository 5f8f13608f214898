//! A Prometheus server for tests.

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::children::{Child, free_port, scratch};
use super::http::Http;

/// How long a start may take on a busy machine.
const START: Duration = Duration::from_secs(60);

/// A `prometheus` process that scrapes each second.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    http: Http,
}

impl Prometheus {
    /// Starts one that scrapes these ports of 127.0.0.1 as the job `runner` and evaluates these rules.
    pub fn start(ports: &[u16], rules: &str) -> Self {
        let (dir, port): (PathBuf, u16) = (scratch("prometheus"), free_port());
        let targets: Vec<String> = ports.iter().map(|port| format!("'127.0.0.1:{port}'")).collect();
        let settings = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\nrule_files: [rules.yaml]\n\
             scrape_configs:\n  - job_name: runner\n    static_configs: [{{targets: [{}]}}]\n",
            targets.join(", ")
        );
        std::fs::write(dir.join("prometheus.yml"), settings).expect("its settings");
        std::fs::write(dir.join("rules.yaml"), rules).expect("its rules");
        let child = Child::start("prometheus", None, Signal::SIGKILL, &dir.join("log"), |command| {
            command
                .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
                .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
                .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        });
        child.wait_ready(START, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self {
            child,
            http: Http::new(format!("http://127.0.0.1:{port}")),
        }
    }

    /// What it says at an address of its API, under `data`; `Null` while it starts.
    pub async fn ask(&self, path: &str) -> Value {
        match self.http.try_get(path).await {
            Ok(reply) if reply.status == 200 => reply.json()["data"].clone(),
            _ => Value::Null,
        }
    }

    /// The end of its log, for failures.
    pub fn tail(&self) -> String {
        self.child.tail()
    }
}
