//! `runner init`: a directory to start from. Never overwrites a file.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::print;

const CONFIG: &str = include_str!("../../samples/config.yaml");

const HELLO: &str = include_str!("../../samples/hello.yaml");

/// Write config.yaml and manifests/hello.yaml; existing files are left alone.
#[derive(Debug, Args)]
#[command(after_help = "Then:\n  runner check\n  runner")]
pub struct Init {
    /// Where
    #[arg(default_value = ".")]
    dir: PathBuf,
}

impl Init {
    pub fn run(self) -> anyhow::Result<()> {
        let mut said = Ok(());
        for (name, text) in [("config.yaml", CONFIG), ("manifests/hello.yaml", HELLO)] {
            let path = self.dir.join(name);
            let made = write_new(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            let word = if made { "wrote" } else { "kept" };
            said = said.and(print::done(&format!("{word} {}", path.display())));
        }
        Ok(said?)
    }
}

/// Whether the file was created; `false` if it existed.
fn write_new(path: &Path, text: &str) -> std::io::Result<bool> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    match File::create_new(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map(|()| true),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e),
    }
}
