//! Processor time and commands of the servers since their start, as they report them.

use std::time::Duration;

use crate::redis::RedisBroker;
use crate::redis::net::fault;
use crate::{BrokerResult, StoreUsage};

const DOING: &str = "ask what the server has used";

impl RedisBroker {
    /// The sum over all servers that have keys.
    pub(in crate::redis) async fn usage_of_servers(&self) -> BrokerResult<StoreUsage> {
        let mut sum = StoreUsage::default();
        for mut server in self.conn.reached(DOING).await? {
            let info = redis::cmd("INFO").query_async::<String>(&mut server).await;
            let used = usage(&info.map_err(|error| fault::of(error, DOING))?);
            sum.cpu += used.cpu;
            sum.commands = sum.commands.saturating_add(used.commands);
        }
        Ok(sum)
    }
}

/// What the default sections of `INFO` say; a field that is missing counts as zero.
fn usage(info: &str) -> StoreUsage {
    let field = |name: &str| {
        let mut lines = info.lines();
        lines.find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
    };
    let seconds = |name| field(name).and_then(|text| text.parse().ok()).unwrap_or(0.0);
    let cpu = seconds("used_cpu_user") + seconds("used_cpu_sys");
    let commands = field("total_commands_processed").and_then(|text| text.parse().ok());
    StoreUsage {
        cpu: Duration::try_from_secs_f64(cpu).unwrap_or_default(),
        commands: commands.unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_system_time_are_added() {
        let info = "# CPU\r\nused_cpu_sys:0.5\r\nused_cpu_user:1.25\r\nused_cpu_user_children:9\r\n\
                    # Stats\r\ntotal_commands_processed:42\r\n";
        let used = usage(info);
        assert_eq!(used.cpu, Duration::from_millis(1750));
        assert_eq!(used.commands, 42);
        assert_eq!(usage("odd"), StoreUsage::default());
    }
}
