//! `runner task artifacts`: lists the files that a run left, or saves them.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use runner_core::task::{QueueName, TaskId};
use runner_queue::{ArtifactList, Broker};
use serde_json::json;

use super::exit::Usage;
use super::task_args::TaskArgs;
use super::{CommandContext, print};

#[derive(Debug, Args)]
#[command(after_help = "Files are kept for a week, also when the task is gone.")]
pub(super) struct Artifacts {
    #[command(flatten)]
    which: TaskArgs,
    /// Save the files into this directory; files that exist are not replaced
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print one JSON object a line
    #[arg(long, conflicts_with = "out")]
    json: bool,
}

impl Artifacts {
    pub(super) async fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        let broker = context.looked_at().await?;
        let (queue, id) = self.place(broker.as_ref()).await?;
        let list = ArtifactList::read(broker.as_ref(), &queue, &id).await?;
        if let Some(directory) = &self.out {
            return save(broker.as_ref(), &queue, &id, &list, directory).await;
        }
        if self.json {
            for file in &list.files {
                let object = json!({"name": file.name, "bytes": file.bytes, "attempt": list.attempt});
                print::text(&format!("{object}\n"))?;
            }
            return Ok(());
        }
        if list.files.is_empty() {
            return Ok(print::done(&format!("the run of {id} left no files"))?);
        }
        let rows: Vec<Vec<String>> = list
            .files
            .iter()
            .map(|file| vec![file.name.clone(), file.bytes.to_string()])
            .collect();
        Ok(print::text(&print::table(&["FILE", "BYTES"], &rows))?)
    }

    /// The task may be gone: then its queue is that of the record of its run.
    async fn place(&self, broker: &dyn Broker) -> anyhow::Result<(QueueName, TaskId)> {
        match self.which.find(broker).await {
            Err(error) if !error.is::<Usage>() => {
                let Ok(id) = TaskId::new(self.which.id.as_str()) else {
                    return Err(error);
                };
                match self.which.record(broker, &id).await? {
                    Some(record) => Ok((record.queue, id)),
                    None => Err(error),
                }
            }
            found => found,
        }
    }
}

async fn save(
    broker: &dyn Broker,
    queue: &QueueName,
    id: &TaskId,
    list: &ArtifactList,
    directory: &Path,
) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    for (position, file) in list.files.iter().enumerate() {
        // Names come from the store, which others may write.
        let is_plain = !file.name.contains(['/', '\0']) && !matches!(file.name.as_str(), "" | "." | "..");
        if !is_plain {
            bail!("{:?} is not the name of a file", file.name);
        }
        let Some(content) = ArtifactList::content(broker, queue, id, position).await? else {
            bail!("{} is no longer kept", file.name);
        };
        let path = directory.join(&file.name);
        let written = OpenOptions::new().write(true).create_new(true).open(&path);
        let written = written.and_then(|mut out| out.write_all(&content));
        written.with_context(|| format!("cannot write {}", path.display()))?;
        print::done(&path.display().to_string())?;
    }
    Ok(())
}
