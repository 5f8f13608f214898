//! `runner doctor`: why something does not run, looked for everywhere: settings, stores, clock, schedules, workers, queues,
//! tasks, disk and dashboard. Each line has its evidence, and each fault a way to correct it. `check` finds what is wrong in
//! texts; this also looks at what runs.

mod broker;
mod diagnosis;
mod fix;
mod machine;
mod notifications;
mod schedules;
mod texts;
mod triggers;
mod web;
mod work;

use clap::Args;
use serde_json::json;

use super::check::Check;
use super::exit::FaultsFound;
use super::parts::Registrar;
use super::{CommandContext, print};
use diagnosis::{Diagnosis, Level};

/// Say what is wrong with this installation, with evidence and what to do about it
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner doctor\n  \
    runner doctor --fix\n  \
    runner doctor --json | jq -r '.[] | select(.level == \"error\") | .text'\n\n\
    error: something does not run, or will not; warning: something may go wrong. --fix makes a missing directory of manifests and a\n\
    missing table, and takes from others the right to read a settings file that holds secrets; it changes nothing else. Exit code 1 means that there\n\
    are errors.")]
pub struct DoctorCommand {
    /// Correct what can be corrected without risk
    #[arg(long)]
    fix: bool,
    /// Print a JSON array of objects
    #[arg(long)]
    json: bool,
}

impl DoctorCommand {
    pub async fn run(self, context: &CommandContext, registrars: Vec<Registrar>) -> anyhow::Result<()> {
        let mut found = Vec::new();
        let looked = Check::of_everything().look(context, registrars).await?;
        if self.fix {
            found.extend(fix::correct(&looked).await);
        }
        found.extend(texts::areas(&looked, &found));
        if let Some(settings) = looked.settings {
            found.extend(machine::look(settings));
            if let Some(broker) = broker::look(context, settings, &mut found).await {
                found.extend(work::look(context, broker.as_ref()).await);
                found.extend(schedules::look(context, settings, broker.as_ref()).await);
                found.extend(triggers::look(broker.as_ref()).await);
                found.extend(notifications::look(settings, broker.as_ref()).await);
            }
            if cfg!(feature = "web") {
                found.push(web::look(settings).await);
            }
        }
        self.print(&found)
    }

    fn print(&self, found: &[Diagnosis]) -> anyhow::Result<()> {
        let count = |level| found.iter().filter(|finding| finding.level == level).count();
        let (errors, warnings) = (count(Level::Error), count(Level::Warning));
        if self.json {
            let objects = found.iter().map(|finding| {
                json!({
                    "level": finding.level.as_str(), "area": finding.area, "code": finding.code,
                    "text": finding.text, "hint": finding.hint,
                })
            });
            print::json(&objects.collect::<Vec<_>>())?;
        } else {
            let lines: String = found.iter().map(Diagnosis::lines).collect();
            let (errors, warnings) = (print::counted(errors, "error"), print::counted(warnings, "warning"));
            print::text(&format!("{lines}\n{errors}, {warnings}\n"))?;
        }
        match errors {
            0 => Ok(()),
            errors => Err(FaultsFound(errors).into()),
        }
    }
}
