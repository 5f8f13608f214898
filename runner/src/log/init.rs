//! Initialises logging for the process: outputs, level, and the guard that flushes them.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::tz::TimeZone;
use runner_core::clock::Clock;
use tracing::Subscriber;
use tracing::dispatcher::{Dispatch, SetGlobalDefaultError, set_global_default};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::MakeWriterExt as _;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};

use super::levels::{JointRunLog, LogLevels, sent_spans};
use super::line::{LineFormat, TimeFormat};
use super::roller::{Reopen, Roller};
use super::run_lines::RunLogLayer;
use super::signs::Escaped;
use super::span_export::SpanExportLayer;
use super::span_fields::{SpanFields, TaskFields};
use super::{Format, LogSettings};

/// Lines buffered for a slow disk or terminal, about 10 MB at the usual length. More are dropped and counted: a full
/// disk must not stop tasks.
const WAITING_LINES: usize = 65_536;

/// The target of the program's own lines on standard error; the console output leaves them out.
pub const ONLY_FILE: &str = "runner::end";

/// Why logging could not be initialised.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The log file cannot be written.
    #[error("cannot write the log file {path:?}")]
    Unusable {
        /// The configured path.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Logging is already initialised.
    #[error("logging is in force already")]
    Twice(#[source] SetGlobalDefaultError),
}

/// Owns the outputs and flushes them when dropped.
pub struct LogGuard {
    _workers: Vec<WorkerGuard>,
    lost: LostLines,
    reopen: Reopen,
    levels: LogLevels,
}

impl LogGuard {
    /// What can be asked of the log while it is in use.
    #[must_use]
    pub fn control(&self) -> LogControl {
        LogControl {
            lost: self.lost.clone(),
            reopen: self.reopen.clone(),
            levels: Some(self.levels.clone()),
        }
    }
}

/// What can be asked of the log while it is in use. The default is that of a log that is not ours: nothing.
#[derive(Clone, Default)]
pub struct LogControl {
    /// Counts lines that reached no output; still counting.
    pub lost: LostLines,
    /// Makes the log file reopen if it was moved.
    pub reopen: Reopen,
    /// The levels, which may be changed.
    pub levels: Option<LogLevels>,
}

/// Counts lines lost because an output was too slow or could not be written.
#[derive(Clone, Default)]
pub struct LostLines(Vec<LostBy>);

#[derive(Clone)]
struct LostBy {
    output: &'static str,
    too_slow: ErrorCounter,
    refused: Arc<AtomicUsize>,
}

impl LostLines {
    /// Lines lost since the start, by output: `console`, `file`.
    pub fn by_output(&self) -> impl Iterator<Item = (&'static str, usize)> {
        self.0.iter().map(|by| {
            let refused = by.refused.load(Ordering::Relaxed);
            (by.output, by.too_slow.dropped_lines().saturating_add(refused))
        })
    }

    /// Lines lost since the start, over all outputs.
    #[must_use]
    pub fn total(&self) -> usize {
        self.by_output().map(|(_, lines)| lines).sum()
    }
}

/// Counts what the output refuses instead of returning the error: the writer thread cannot act on it.
struct Counted<W> {
    output: W,
    refused: Arc<AtomicUsize>,
}

impl<W: io::Write> io::Write for Counted<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.output.write_all(line).is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// Initialises logging for this process; times are shown in `zone`. With `spans`, those of handlers are taken to be sent.
///
/// # Errors
///
/// If the file cannot be written; nothing is initialised then.
pub fn init(settings: &LogSettings, zone: &TimeZone, clock: Arc<dyn Clock>, spans: bool) -> Result<LogGuard, LogError> {
    let time = TimeFormat {
        clock: clock.clone(),
        zone: zone.clone(),
    };
    let (mut layers, mut reopen) = (Vec::new(), Reopen::default());
    let (mut workers, mut lost) = (Vec::new(), LostLines::default());
    let mut keep = |(writer, worker, by): (NonBlocking, WorkerGuard, LostBy)| {
        lost.0.push(by);
        workers.push(worker);
        writer
    };
    layers.push(TaskFields(settings.format).boxed());
    if settings.console {
        let ansi = io::stdout().is_terminal();
        // By the writer: each filter of a layer costs every task about 100 ns.
        let console = keep(non_blocking("console", io::stdout())).with_filter(|line| line.target() != ONLY_FILE);
        layers.push(layer(settings.format, time.clone(), console, ansi));
    }
    if let Some(file) = &settings.file {
        let roller = Roller::open(file.clone(), clock).map_err(|source| LogError::Unusable {
            path: file.path.clone(),
            source,
        })?;
        reopen = roller.reopen_handle();
        let file = keep(non_blocking("file", roller));
        layers.push(layer(settings.format, time, file, false));
    }
    let levels = match spans {
        true => LogLevels::apart(settings.level, settings.runs),
        false => LogLevels::new(settings.level, settings.runs),
    };
    set_global_default(subscriber(layers, &levels, spans)).map_err(LogError::Twice)?;
    Ok(LogGuard {
        _workers: workers,
        lost,
        reopen,
        levels,
    })
}

type Layers = Vec<Box<dyn Layer<Registry> + Send + Sync>>;

fn subscriber(layers: Layers, levels: &LogLevels, spans: bool) -> Dispatch {
    if levels.is_joint() {
        let runs = JointRunLog(levels.clone());
        return Dispatch::new(Registry::default().with(layers).with(runs).with(levels.of_log()));
    }
    let runs = RunLogLayer::default().with_filter(levels.of_runs());
    let spans = spans.then(|| SpanExportLayer::default().with_filter(sent_spans()));
    Dispatch::new(
        Registry::default()
            .with(layers.with_filter(levels.of_log()))
            .with(runs)
            .with(spans),
    )
}

fn non_blocking(output: &'static str, writer: impl io::Write + Send + 'static) -> (NonBlocking, WorkerGuard, LostBy) {
    let refused = Arc::<AtomicUsize>::default();
    let counted = Counted {
        output: writer,
        refused: refused.clone(),
    };
    let (writer, worker) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(WAITING_LINES)
        .finish(counted);
    let by = LostBy {
        output,
        too_slow: writer.error_counter(),
        refused,
    };
    (writer, worker, by)
}

fn layer<S, W>(format: Format, time: TimeFormat, writer: W, ansi: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer();
    match format {
        Format::Console => layer
            .with_writer(writer)
            .with_ansi(ansi)
            .event_format(LineFormat { time })
            .fmt_fields(SpanFields(format))
            .boxed(),
        Format::Json => layer
            .with_writer(Escaped(writer))
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_timer(time)
            .fmt_fields(SpanFields(format))
            .boxed(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::log::FileSettings;
    use crate::telemetry::Telemetry;
    use runner_core::clock::ManualClock;
    use std::time::Duration;
    use tracing::level_filters::LevelFilter;

    fn written(format: Format, emit: impl FnOnce()) -> String {
        written_at((LevelFilter::DEBUG, LevelFilter::INFO), format, emit)
    }

    /// What is in the log, with these levels of the log and of runs.
    fn written_at((level, runs): (LevelFilter, LevelFilter), format: Format, emit: impl FnOnce()) -> String {
        written_by(&LogLevels::new(level, runs), format, emit)
    }

    fn written_by(levels: &LogLevels, format: Format, emit: impl FnOnce()) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let clock = Arc::new(ManualClock::at("2026-11-22T02:00:00.1234Z".parse().unwrap()));
        let file = FileSettings {
            path: path.clone(),
            max_bytes: 1 << 20,
            max_total: 1 << 30,
            keep: Duration::from_secs(86_400),
            compress: false,
        };
        let (writer, worker, _) = non_blocking("file", Roller::open(file, clock.clone()).unwrap());
        let zone = TimeZone::get("Asia/Shanghai").unwrap();
        let lines = layer(format, TimeFormat { clock, zone }, writer, false);
        let subscriber = subscriber(vec![TaskFields(format).boxed(), lines], levels, false);
        tracing::dispatcher::with_default(&subscriber, emit);
        drop(worker);
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_line_for_people() {
        let text = written(Format::Console, || {
            let span = tracing::info_span!("task", id = "a1");
            let _entered = span.enter();
            tracing::warn!(target: "runner", queue = "low", note = "two words", n = 3, "it\nis\x1b[31m red");
            tracing::debug!(target: "hyper", "frame");
        });
        assert_eq!(
            text,
            "2026-11-22T10:00:00.123+08:00 WARN  runner it\\nis\\u{1b}[31m red \
             queue=low note=\"two words\" n=3 id=a1\n"
        );
    }

    #[test]
    fn a_line_for_machines() {
        let text = written(Format::Json, || {
            tracing::error!(target: "runner", queue = "low\u{202e}", "a\nb\u{9b}");
        });
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(text.lines().count(), 1);
        assert_eq!(line["level"], "ERROR");
        assert_eq!(line["message"], "a\nb\u{9b}");
        assert_eq!(line["queue"], "low\u{202e}");
        assert!(text.contains("\\u202e") && !text.contains('\u{202e}'), "{text}");
        assert_eq!(line["timestamp"], "2026-11-22T10:00:00.123+08:00");
    }

    /// Runs this within the span of a task; returns what is in the log of the run.
    fn in_a_task(emit: fn()) -> String {
        let registry = runner_sdk::Registry::new().on("greet the guest", move |cx: runner_sdk::Ctx| async move {
            crate::log::task_span(&cx, &Telemetry::default()).in_scope(emit);
        });
        let trial = runner_sdk::testing::Trial::of("greet the guest")
            .attempt(2)
            .run(registry);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(trial).unwrap().log
    }

    fn two_lines_of_a_task() {
        in_a_task(|| {
            tracing::info!("one");
            tracing::info_span!("inner", n = 1).in_scope(|| tracing::info!("two"));
        });
    }

    #[test]
    fn levels_keep_lines_from_the_log_and_from_runs_but_not_the_name_of_the_task() {
        let emit = || {
            tracing::info!("fine");
            tracing::warn!("odd");
        };
        let (info, warn) = (LevelFilter::INFO, LevelFilter::WARN);
        for (level, runs) in [(info, info), (info, warn), (warn, info), (warn, warn)] {
            for format in [Format::Console, Format::Json] {
                let mut kept = String::new();
                let text = written_at((level, runs), format, || kept = in_a_task(emit));
                let expected = if level == info { 2 } else { 1 };
                assert_eq!(text.lines().count(), expected, "{level} {runs}: {text}");
                assert!(
                    text.lines().all(|line| line.contains("trial")),
                    "{level} {runs}: {text}"
                );
                assert!(kept.contains("warn: odd"), "{level} {runs}: {kept}");
                assert_eq!(kept.contains("info: fine"), runs == info, "{level} {runs}: {kept}");
            }
        }
    }

    /// The lines of a task that reach the log and the log of its run.
    fn both(levels: &LogLevels) -> (Vec<&'static str>, Vec<&'static str>) {
        let emit = || {
            tracing::debug!("fine detail");
            tracing::info!("normal line");
            tracing::warn!("odd line");
        };
        let mut kept = String::new();
        let text = written_by(levels, Format::Console, || kept = in_a_task(emit));
        let of = |text: &str| {
            ["fine", "normal", "odd"]
                .into_iter()
                .filter(|w| text.contains(*w))
                .collect()
        };
        (of(&text), of(&kept))
    }

    #[test]
    fn levels_change_while_the_program_runs() {
        use LevelFilter as L;
        let (all, from_info, from_warn) = (vec!["fine", "normal", "odd"], vec!["normal", "odd"], vec!["odd"]);
        let joint = LogLevels::new(L::INFO, L::INFO);
        assert_eq!(both(&joint), (from_info.clone(), from_info.clone()));
        assert!(joint.set(L::DEBUG, L::INFO));
        assert_eq!(both(&joint), (all.clone(), from_info.clone()));
        assert!(joint.set(L::WARN, L::WARN));
        assert_eq!(both(&joint), (from_warn.clone(), from_warn.clone()));
        assert!(
            !joint.set(L::WARN, L::INFO),
            "one filter cannot keep fewer lines for the log"
        );
        assert_eq!(both(&joint), (from_warn.clone(), from_warn.clone()));

        let apart = LogLevels::new(L::INFO, L::WARN);
        assert_eq!(both(&apart), (from_info.clone(), from_warn.clone()));
        assert!(apart.set(L::WARN, L::DEBUG));
        assert_eq!(both(&apart), (from_warn, all));
    }

    #[test]
    fn lines_of_a_task_name_it() {
        let of = r#"task_id=trial task_type="greet the guest" queue=default attempt=2"#;
        let text = written(Format::Console, two_lines_of_a_task);
        let ends: Vec<_> = text.lines().map(|line| line.split_once("tests ").unwrap().1).collect();
        assert_eq!(ends, [format!("one {of}"), format!("two n=1 {of}")]);

        let text = written(Format::Json, two_lines_of_a_task);
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let task = serde_json::json!({
                "name": "task", "task_id": "trial", "task_type": "greet the guest", "queue": "default", "attempt": 2,
            });
            assert_eq!(line["spans"][0], task, "{line}");
        }
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn an_unusable_path_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let settings = LogSettings {
            console: false,
            file: Some(FileSettings {
                path: dir.path().to_owned(),
                max_bytes: 1,
                max_total: 1,
                keep: Duration::from_secs(1),
                compress: false,
            }),
            ..LogSettings::default()
        };
        let clock = Arc::new(ManualClock::at(jiff::Timestamp::UNIX_EPOCH));
        let error = init(&settings, &TimeZone::UTC, clock, false).err().unwrap();
        assert!(runner_core::chain::chain(&error).contains("cannot write the log file"));
    }

    #[test]
    fn lines_that_an_output_refuses_are_counted() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let (mut writer, worker, by) = non_blocking("file", full);
        for _ in 0..3 {
            io::Write::write_all(&mut writer, b"line\n").unwrap();
        }
        drop(worker);
        let lost = LostLines(vec![by]);
        assert_eq!(lost.by_output().collect::<Vec<_>>(), [("file", 3)]);
        assert_eq!(lost.total(), 3);
    }
}
