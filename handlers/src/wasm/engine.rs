//! One run of a module: a store of its own, its streams, and the thread that it runs on.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use runner_core::function::WasmSpec;
use runner_sdk::{Bytes, Ctx, Outcome, StopReason, TaskError};
use tokio::io::{DuplexStream, duplex};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::timeout;
use wasmtime::{Linker, ResourceLimiter, Store};
use wasmtime_wasi::cli::AsyncStdoutStream;
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder, WasiView as _};

use super::end::{self, MemoryUsedUp, ModuleEnd};
use super::modules::{ModuleCache, Ticking};
use crate::context;
use crate::exec::MAX_RESULT_BYTES;
use crate::exec::output::{self, Tail};
use crate::secret::Secrets;
use crate::stopped::stopped;

/// Bytes of output on their way into the log; a module that prints faster waits.
const PIPE: usize = 64 * 1024;

/// Elements of a module's tables: pointers to functions, of which large programs have a hundred thousand.
const MAX_TABLE: usize = 1_000_000;

/// Files and streams that a module may have open: they are those of this process.
const MAX_OPEN: usize = 256;

/// What a thread that compiles may take after its task was stopped, before it is left alone.
const LAST_STEPS: Duration = Duration::from_secs(1);

/// What a store holds.
struct Guest {
    wasi: WasiP1Ctx,
    /// Bytes of memory that it may have.
    memory: usize,
    /// Elements of all its tables.
    elements: usize,
}

impl ResourceLimiter for Guest {
    fn memory_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        // An end with a reason: programs seldom look at what a refused growth returns.
        match desired <= self.memory {
            true => Ok(true),
            false => Err(wasmtime::Error::new(MemoryUsedUp)),
        }
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|most| desired > most) {
            // The engine refuses it.
            return Ok(true);
        }
        let more = desired.saturating_sub(current);
        let fits = more <= MAX_TABLE.saturating_sub(self.elements);
        self.elements += if fits { more } else { 0 };
        Ok(fits)
    }

    fn instances(&self) -> usize {
        1
    }

    fn memories(&self) -> usize {
        1
    }
}

type Stop = Box<dyn Future<Output = StopReason> + Send + Unpin>;

/// Everything that a run needs, on its way to another thread.
struct ModuleRun {
    spec: WasmSpec,
    modules: Arc<ModuleCache>,
    env: Vec<(String, String)>,
    payload: Bytes,
    out: DuplexStream,
    err: DuplexStream,
}

/// Runs the module to its end.
pub(super) async fn run(
    spec: &WasmSpec,
    function: &str,
    modules: &Arc<ModuleCache>,
    cx: &Ctx,
) -> Result<Outcome, TaskError> {
    let mut secrets = Secrets::default();
    let env = environment(spec, function, &mut secrets, cx)?;
    let ((out, read_out), (err, read_err)) = (duplex(PIPE), duplex(PIPE));
    let running = modules.ticking().and_then(|ticking| {
        let run = ModuleRun {
            spec: spec.clone(),
            modules: Arc::clone(modules),
            env,
            payload: cx.payload().clone(),
            out,
            err,
        };
        start(run, ticking, Box::new(Box::pin(cx.cancelled())))
    });
    let running = match running {
        Ok(running) => running,
        Err(why) => return ModuleEnd::Misconfigured(why).outcome(spec, None, None, cx),
    };
    let (mut stdout, mut stderr) = (Tail::new(spec.stdout_is_result), Tail::new(false));
    let reading = async {
        tokio::join!(
            output::read(Some(read_out), "out", &mut stdout, &secrets, cx.log()),
            output::read(Some(read_err), "err", &mut stderr, &secrets, cx.log()),
        );
    };
    let end = end_of(ended(running, cx), reading).await;
    let result = result(stdout.captured, &secrets, cx);
    if let Some(result) = &result {
        cx.keep_result(result.clone());
    }
    match (end, cx.stop_reason()) {
        (ModuleEnd::Stopped, Some(reason)) => Err(stopped(reason, cx)),
        (end, _) => end.outcome(spec, stderr.last_line, result, cx),
    }
}

/// Runs it on a thread of its own: a module computes for as long as it likes between two ticks, and compiling takes seconds.
fn start(run: ModuleRun, ticking: Ticking, stop: Stop) -> Result<oneshot::Receiver<ModuleEnd>, String> {
    let (ended, end) = oneshot::channel();
    let runtime = Handle::current();
    let to_its_end = move || {
        let end = runtime.block_on(run.to_its_end(stop));
        // Until here it could be interrupted.
        drop(ticking);
        // One that was left alone has no one who waits for its end.
        drop(ended.send(end));
    };
    let spawned = std::thread::Builder::new().name("wasm".to_owned()).spawn(to_its_end);
    spawned.map_err(|error| format!("no thread for a module: {error}"))?;
    Ok(end)
}

/// How the run ended. One that is stopped while it is compiled ends here and leaves its thread to finish that.
async fn ended(mut running: oneshot::Receiver<ModuleEnd>, cx: &Ctx) -> ModuleEnd {
    let lost = |_| ModuleEnd::Trapped("the engine failed, which is a fault of this program".to_owned());
    tokio::select! {
        end = &mut running => end.unwrap_or_else(lost),
        _ = cx.cancelled() => match timeout(LAST_STEPS, running).await {
            Ok(end) => end.unwrap_or_else(lost),
            Err(_) => ModuleEnd::Stopped,
        },
    }
}

/// The end, once everything that was printed before it is read. A thread that still compiles keeps its streams open.
async fn end_of(ended: impl Future<Output = ModuleEnd>, reading: impl Future<Output = ()>) -> ModuleEnd {
    let (mut ended, mut reading) = (pin!(ended), pin!(reading));
    tokio::select! {
        end = &mut ended => {
            drop(timeout(LAST_STEPS, reading).await);
            end
        }
        () = &mut reading => ended.await,
    }
}

impl ModuleRun {
    async fn to_its_end(self, mut stop: Stop) -> ModuleEnd {
        tokio::select! {
            biased;
            _ = &mut stop => ModuleEnd::Stopped,
            end = self.work() => end,
        }
    }

    async fn work(self) -> ModuleEnd {
        let (spec, modules) = (self.spec.clone(), Arc::clone(&self.modules));
        let module = match modules.module(&spec.module).await {
            Ok(module) => module,
            Err(why) => return ModuleEnd::Misconfigured(why),
        };
        // Compiling does not give way. A task that was stopped meanwhile ends here: it may run elsewhere by now.
        yield_now().await;
        let guest = match self.guest() {
            Ok(guest) => guest,
            Err(why) => return ModuleEnd::Misconfigured(why),
        };
        let mut linker: Linker<Guest> = Linker::new(module.engine());
        if let Err(error) = p1::add_to_linker_async(&mut linker, |guest| &mut guest.wasi) {
            return ModuleEnd::Misconfigured(format!("{error:#}"));
        }
        let mut store = Store::new(module.engine(), guest);
        store.limiter(|guest| guest);
        // It gives way at each tick, and there it ends when this future is dropped.
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        let instance = match linker.instantiate_async(&mut store, &module).await {
            Ok(instance) => instance,
            Err(error) => return end::of_setup(&error, &spec),
        };
        let Ok(main) = instance.get_typed_func::<(), ()>(&mut store, "_start") else {
            let path = spec.module.display();
            let why = format!("{path}: it has no function _start: build it as a command of WASI preview 1");
            return ModuleEnd::Misconfigured(why);
        };
        match main.call_async(&mut store, ()).await {
            Ok(()) => ModuleEnd::Exited(0),
            Err(error) => end::of_error(&error),
        }
    }

    /// The machine that the module sees: no network, and of the files what `dirs` names.
    fn guest(self) -> Result<Guest, String> {
        let mut wasi = WasiCtxBuilder::new();
        let name = self.spec.module.file_name().unwrap_or_default().to_string_lossy();
        wasi.arg(name).args(&self.spec.args).envs(&self.env);
        wasi.stdin(MemoryInputPipe::new(self.payload));
        wasi.stdout(AsyncStdoutStream::new(PIPE, self.out));
        wasi.stderr(AsyncStdoutStream::new(PIPE, self.err));
        wasi.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
        for dir in &self.spec.dirs {
            let rights = match dir.write {
                true => FsPerms::ReadWrite,
                false => FsPerms::ReadOnly,
            };
            wasi.preopened_dir(&dir.host, &dir.guest, rights)
                .map_err(|error| format!("wasm.dirs: {}: {error:#}", dir.host.display()))?;
        }
        let mut wasi = wasi.build_p1();
        wasi.ctx().table.set_max_capacity(MAX_OPEN);
        Ok(Guest {
            wasi,
            memory: usize::try_from(self.spec.memory).unwrap_or(usize::MAX),
            elements: 0,
        })
    }
}

/// The manifest's variables, then ours, which cannot be overridden.
fn environment(
    spec: &WasmSpec,
    function: &str,
    secrets: &mut Secrets,
    cx: &Ctx,
) -> Result<Vec<(String, String)>, TaskError> {
    let mut env = Vec::new();
    let own = context::variables(cx, function);
    for (name, value) in &spec.env {
        let value = secrets.resolve(value).map_err(|error| error.into_error(cx))?;
        if !own.contains_key(name.as_str()) {
            env.push((name.clone(), value));
        }
    }
    env.extend(own.into_iter().map(|(name, value)| (name.to_owned(), value)));
    Ok(env)
}

/// What the module printed, as its result; nothing, and a line in the log, if that is too long.
fn result(stdout: Vec<u8>, secrets: &Secrets, cx: &Ctx) -> Option<Bytes> {
    if stdout.len() > MAX_RESULT_BYTES {
        let note = format!("the result is longer than {MAX_RESULT_BYTES} bytes and was not kept");
        cx.log().push("log", &note);
        return None;
    }
    (!stdout.is_empty()).then(|| secrets.redact(&stdout).into_owned().into())
}
