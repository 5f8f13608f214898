//! The kind `wasm` as data: a module of WebAssembly, with what it may use.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Bytes of memory that a module may use when its manifest names none.
pub const DEFAULT_WASM_MEMORY: u64 = 256 * 1024 * 1024;

/// A module, and the little that it gets of its host: no network, and of the files only what `dirs` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WasmSpec {
    /// The file of the module, a command of WASI preview 1.
    pub module: PathBuf,
    /// Its arguments, after its name.
    pub args: Vec<String>,
    /// Variables set for it. Values may hold `${env:NAME}` and `${file:PATH}`, resolved when it runs.
    pub env: BTreeMap<String, String>,
    /// Directories that it sees.
    pub dirs: Vec<WasmDir>,
    /// Bytes of memory that it may use.
    pub memory: u64,
    /// Whether its standard output is the result, besides being in the log.
    pub stdout_is_result: bool,
}

impl WasmSpec {
    /// This module with the defaults of a manifest.
    #[must_use]
    pub fn new(module: impl Into<PathBuf>) -> Self {
        Self {
            module: module.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            dirs: Vec::new(),
            memory: DEFAULT_WASM_MEMORY,
            stdout_is_result: true,
        }
    }
}

/// A directory of the host in the eyes of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WasmDir {
    /// Where it is.
    pub host: PathBuf,
    /// What it is called there.
    pub guest: String,
    /// Whether files in it may be made, changed and deleted.
    pub write: bool,
}
