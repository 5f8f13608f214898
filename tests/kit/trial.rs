//! Registration of tests: their needs, and the result when a need is absent.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio::runtime::Runtime;

use super::{children, cluster, postgres, rabbitmq, redis};

/// Default time limit of a test; one that hangs must not hang the whole run. The slowest, those in a browser, need a minute
/// or two, and three times as long on a busy machine.
const TRIAL_LIMIT: Duration = Duration::from_secs(600);

/// Tests mostly wait for other processes, so more of them run at once than there are cores.
const TRIALS_AT_ONCE: usize = 4;

/// One runtime for all tests: a runtime per test would cost threads and gain nothing.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a tokio runtime for the tests")
});

/// Something that a machine may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// `redis-server` on the path, or what `RUNNER_TEST_REDIS` names.
    Redis,
    /// The same, of version 7 or newer.
    RedisSeven,
    /// The same, built with TLS.
    RedisTls,
    /// Several servers of version 7 or newer: a Redis Cluster.
    Cluster,
    /// `mariadbd` and `mariadb-install-db` on the path.
    MariaDb,
    /// `initdb` and `postgres`, on the path or where Debian puts them.
    Postgres,
    /// `rabbitmq-server`, where its package puts it.
    RabbitMq,
    /// `nginx` on the path.
    Nginx,
    /// `prometheus` and `promtool` on the path.
    Prometheus,
    /// What `Postgres` needs, and `pgbouncer` on the path.
    PgBouncer,
    /// `chromium` on the path.
    Chromium,
    /// `node` on the path.
    Node,
    /// `axe-core` and `playwright-core` in `target/browser`, where `scripts/test` puts them.
    BrowserTools,
    /// `cc`, which every machine that links Rust programs has.
    Cc,
}

impl Need {
    /// Why this need is not met here, or `None` if it is.
    fn absent(self) -> Option<String> {
        let missing = |program: &str| (!on_path(program)).then(|| format!("{program} is not installed"));
        match self {
            Self::Redis => missing(&redis::program()),
            Self::RedisSeven | Self::Cluster => missing(&redis::program()).or_else(cluster::too_old),
            Self::RedisTls => missing(&redis::program()).or_else(redis::without_tls),
            Self::MariaDb => missing("mariadbd").or_else(|| missing("mariadb-install-db")),
            Self::Postgres => postgres::bin_dir()
                .is_none()
                .then(|| "postgres is not installed".to_owned()),
            Self::RabbitMq => rabbitmq::absent(),
            Self::Nginx => missing("nginx"),
            Self::Prometheus => missing("prometheus").or_else(|| missing("promtool")),
            Self::PgBouncer => missing("pgbouncer").or_else(|| Self::Postgres.absent()),
            Self::Chromium => missing("chromium"),
            Self::Node => missing("node"),
            Self::BrowserTools => missing("node").or_else(|| {
                let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/browser/node_modules");
                let there = ["axe-core", "playwright-core"].iter().all(|m| modules.join(m).is_dir());
                (!there).then(|| "axe-core is not installed (scripts/test installs it)".to_owned())
            }),
            Self::Cc => missing("cc"),
        }
    }
}

/// Whether an executable of this name is on the path, or in the system's own directories (servers are in `/usr/sbin`, which
/// not every user's path has).
pub fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([Path::new("/usr/sbin").to_owned()])
        .any(|dir| dir.join(program).is_file())
}

/// A test by name; ignored if `needs` are not met, or failed if all tests are required.
pub fn trial<F, Fut>(name: impl Into<String>, needs: &[Need], body: F) -> Trial
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    trial_within(TRIAL_LIMIT, name, needs, body)
}

/// The same for a test with a longer time limit.
pub fn trial_within<F, Fut>(limit: Duration, name: impl Into<String>, needs: &[Need], body: F) -> Trial
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let name = name.into();
    let name = name.strip_prefix("it::").unwrap_or(&name).to_owned();
    let needs = needs.to_vec();
    Trial::ignorable_test(name, move || {
        completion(limit, &needs, Box::new(move || Box::pin(body())))
    })
}

/// The body of a test without its type: what is generic over it is compiled once for every test, and there are a thousand.
type Body = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>>>;

/// Runs a test if what it needs is there.
fn completion(limit: Duration, needs: &[Need], body: Body) -> Result<Completion, Failed> {
    if let Some(reason) = needs.iter().find_map(|need| need.absent()) {
        if std::env::var_os("RUNNER_TEST_ALL").is_some() {
            return Err(format!("{reason}, and RUNNER_TEST_ALL asks for every test").into());
        }
        return Ok(Completion::ignored_with(reason));
    }
    RUNTIME.block_on(async {
        match tokio::time::timeout(limit, body()).await {
            Ok(()) => Ok(Completion::Completed),
            Err(_) => Err(format!("still running after {limit:?}").into()),
        }
    })
}

/// The tests of a module, by what they need: `trials![needs(Redis): a, b; needs(): c]`.
macro_rules! trials {
    (@needs ($($need:ident),*)) => { &[$($crate::kit::Need::$need),*] };
    ($(needs $needs:tt : $($name:ident),+ $(,)?);* $(;)?) => {
        vec![$($(
            $crate::kit::trial(
                concat!(module_path!(), "::", stringify!($name)),
                $crate::kit::trials!(@needs $needs),
                $name,
            )
        ),+),*]
    };
}
pub(crate) use trials;

/// Runs all tests, then stops every server that was started.
pub fn run(modules: Vec<Vec<Trial>>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    let requested = std::env::var("RUST_TEST_THREADS").ok().and_then(|n| n.parse().ok());
    arguments.test_threads = arguments.test_threads.or(requested).or(Some(TRIALS_AT_ONCE));
    let conclusion = libtest_mimic::run(&arguments, modules.into_iter().flatten().collect());
    children::close();
    conclusion.exit_code()
}
