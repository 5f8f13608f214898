//! Compiled modules, kept until their files change, and the clock by which running ones are interrupted.

use std::collections::BTreeMap;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use nix::fcntl::OFlag;
use tokio::sync::Mutex as Turn;
use wasmtime::{Config, Engine, Module};

/// Bytes of a module's file: compiled it takes several times as much memory, and compiling cannot be interrupted.
const MAX_MODULE: u64 = 16 * 1024 * 1024;

/// Compiled modules that are kept, the ones used last.
const KEPT: usize = 64;

/// Bytes of the files of which compiled modules are kept.
const KEPT_BYTES: u64 = 64 * 1024 * 1024;

/// Between two ticks: a module in a loop gives way once a tick, and ends with the first one after it was stopped.
const TICK: Duration = Duration::from_millis(10);

/// What all runs share. The engine is made at the first one.
#[derive(Default)]
pub(crate) struct ModuleCache {
    engine: OnceLock<Engine>,
    kept: Mutex<SavedModules>,
    /// Held while one is compiled: each takes a processor and much memory, and two runs must not compile the same one.
    compiling: Turn<()>,
    ticks: Arc<Ticks>,
}

#[derive(Default)]
struct SavedModules {
    modules: BTreeMap<PathBuf, SavedModule>,
    uses: u64,
}

struct SavedModule {
    stamp: FileStamp,
    module: Module,
    used: u64,
}

/// Tells one content of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileStamp {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl FileStamp {
    fn of(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            bytes: file.len(),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}

impl ModuleCache {
    /// The engine.
    ///
    /// # Errors
    ///
    /// If this machine cannot run modules.
    fn engine(&self) -> Result<&Engine, String> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine);
        }
        let mut config = Config::new();
        // One memory each, so that the limit of a memory is that of the module.
        config.epoch_interruption(true).wasm_multi_memory(false);
        let engine = Engine::new(&config).map_err(|error| format!("no engine for modules: {error:#}"))?;
        Ok(self.engine.get_or_init(|| engine))
    }

    /// The module in this file, compiled unless it is known. Compiling blocks, for seconds if the module is large; one at a time.
    ///
    /// # Errors
    ///
    /// Why there is none, with the file.
    pub(super) async fn module(&self, path: &Path) -> Result<Module, String> {
        let at = |why: String| format!("{}: {why}", path.display());
        let (_, stamp) = open(path).map_err(at)?;
        if let Some(known) = self.known(path, stamp) {
            return Ok(known);
        }
        let _turn = self.compiling.lock().await;
        let (file, stamp) = open(path).map_err(at)?;
        if let Some(known) = self.known(path, stamp) {
            return Ok(known);
        }
        let mut bytes = Vec::new();
        let read = (&file).take(MAX_MODULE + 1).read_to_end(&mut bytes);
        let after = read.and_then(|_| file.metadata());
        let after = after.map_err(|error| at(error.to_string()))?;
        if bytes.len() as u64 > MAX_MODULE {
            return Err(at(format!("it is longer than {MAX_MODULE} bytes")));
        }
        let module = Module::new(self.engine()?, &bytes);
        let module = module.map_err(|error| at(format!("not a module of WebAssembly: {error:#}")))?;
        // One that was written meanwhile may be read in part.
        if FileStamp::of(&after) == stamp {
            self.kept().keep(path, stamp, module.clone());
        }
        Ok(module)
    }

    fn kept(&self) -> MutexGuard<'_, SavedModules> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, path: &Path, stamp: FileStamp) -> Option<Module> {
        let mut kept = self.kept();
        kept.uses += 1;
        let uses = kept.uses;
        let found = kept.modules.get_mut(path).filter(|found| found.stamp == stamp)?;
        found.used = uses;
        Some(found.module.clone())
    }

    /// Ticks while the answer lives.
    ///
    /// # Errors
    ///
    /// If this machine cannot run modules, or has no thread left.
    pub(super) fn ticking(&self) -> Result<Ticking, String> {
        self.ticks.start(self.engine()?)
    }
}

impl SavedModules {
    fn keep(&mut self, path: &Path, stamp: FileStamp, module: Module) {
        let used = self.uses;
        self.modules
            .insert(path.to_owned(), SavedModule { stamp, module, used });
        while self.is_too_much() {
            let oldest = self.modules.iter().min_by_key(|(_, one)| one.used);
            let Some(oldest) = oldest.map(|(path, _)| path.clone()) else {
                return;
            };
            self.modules.remove(&oldest);
        }
    }

    fn is_too_much(&self) -> bool {
        let bytes: u64 = self.modules.values().map(|one| one.stamp.bytes).sum();
        self.modules.len() > KEPT || bytes > KEPT_BYTES
    }
}

/// Opens a plain file: a pipe in its place would wait for a writer.
fn open(path: &Path) -> Result<(File, FileStamp), String> {
    let opened = || -> io::Result<(File, Metadata)> {
        let mut options = OpenOptions::new();
        let file = options.read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
        let about = file.metadata()?;
        Ok((file, about))
    };
    let (file, about) = opened().map_err(|error| error.to_string())?;
    match about.is_file() {
        true => Ok((file, FileStamp::of(&about))),
        false => Err("it is not a file".to_owned()),
    }
}

/// Advances the engine's clock while anything runs, on a thread of its own: those of the runtime may all be busy with modules.
#[derive(Default)]
struct Ticks(Mutex<Ticker>);

#[derive(Default)]
struct Ticker {
    /// Ends the thread when it is dropped.
    thread: Option<SyncSender<()>>,
    running: usize,
}

impl Ticks {
    fn ticker(&self) -> MutexGuard<'_, Ticker> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(self: &Arc<Self>, engine: &Engine) -> Result<Ticking, String> {
        let mut ticker = self.ticker();
        if ticker.thread.is_none() {
            let (alive, ended) = sync_channel::<()>(0);
            let engine = engine.clone();
            let tick = move || {
                while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                    engine.increment_epoch();
                }
            };
            let spawned = std::thread::Builder::new().name("wasm-ticks".to_owned()).spawn(tick);
            spawned.map_err(|error| format!("no thread for the clock of modules: {error}"))?;
            ticker.thread = Some(alive);
        }
        ticker.running += 1;
        drop(ticker);
        Ok(Ticking(Arc::clone(self)))
    }
}

/// The right to be interrupted.
pub(super) struct Ticking(Arc<Ticks>);

impl Drop for Ticking {
    fn drop(&mut self) {
        let mut ticker = self.0.ticker();
        ticker.running = ticker.running.saturating_sub(1);
        if ticker.running == 0 {
            ticker.thread = None;
        }
    }
}
