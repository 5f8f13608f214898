//! What commands tell from outside when something is not as it was meant, and that they show what is there.

use crate::cli::prints;
use crate::kit::{self, Site};

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): a_payload_is_shown_as_it_was_written;
    ]
}

async fn a_payload_is_shown_as_it_was_written() {
    let site = Site::new("");
    let payload = r#"{"z":12345678901234567890123,"a":1.50}"#;
    prints(&site, &["enqueue", "t", "--id", "a", "--payload", payload]).await;
    for command in [
        &["task", "show", "a"][..],
        &["task", "show", "a", "--json"],
        &["ls", "tasks", "--json"],
    ] {
        let shown = prints(&site, command).await;
        assert!(shown.contains(payload), "{shown}");
    }
}
