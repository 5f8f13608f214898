//! What a panic prints: control characters in a message are replaced by visible signs.
//!
//! Handlers put payloads into the messages of their panics. Any other message is printed unchanged.

use std::panic::{PanicHookInfo, set_hook, take_hook};

use super::print;
use crate::text::signs;

/// Installs this in front of the hook that the program has.
pub(super) fn show_safely() {
    let before = take_hook();
    set_hook(Box::new(move |info| match safe(info) {
        None => before(info),
        Some(text) => print::notes(&text),
    }));
}

/// The text to print instead, if the message needs one.
fn safe(info: &PanicHookInfo<'_>) -> Option<String> {
    let message = info.payload_as_str()?;
    let steers = |c: char| signs::is_special(c) && !matches!(c, '\n' | '\t');
    message.contains(steers).then(|| {
        let place = info.location().map_or_else(String::new, |l| format!(" at {l}"));
        format!("a thread panicked{place}:\n{}", signs::lines(message))
    })
}
