//! How live instances differ in their schedules, for a command: it reads what they announce and announces nothing.

use jiff::Timestamp;
use runner_core::schedule::Plan;
use runner_queue::{BrokerResult, Documents};

use super::peer_reader::{OwnDocuments, PeerReader};
use super::peers::SETTLED;
use super::versions::{ScheduleSet, among};

/// Adds to `plan`, which the caller read from the sources, what differs among live instances: problems (W260, W261), and
/// which schedules have several versions. `now` is the broker's.
///
/// # Errors
///
/// Those of the broker.
pub async fn add_differences(broker: &dyn Documents, now: Timestamp, plan: &mut Plan) -> BrokerResult<()> {
    let own = OwnDocuments {
        instance: "",
        digest: "",
        set: &ScheduleSet::new(),
    };
    let peers = PeerReader::default().read(broker, &own).await?;
    // Instances read the same edit at different times.
    let settled = now.checked_sub(SETTLED).unwrap_or(Timestamp::MIN);
    let found = among(&peers, settled);
    plan.problems.extend(found.problems);
    plan.superseded.extend(found.superseded);
    Ok(())
}
