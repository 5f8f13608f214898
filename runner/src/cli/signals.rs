//! Signals: TERM and INT drain, a second one hurries, USR1 reads the sources again, HUP is no reason to die.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::source::Catalog;

/// Handlers for every signal we know; from here on none of them kills the process.
pub(super) struct Signals {
    term: Signal,
    int: Signal,
    usr1: Signal,
    hup: Signal,
}

impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            usr1: signal(SignalKind::user_defined1())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    /// Serves the others until one says stop; the token is cancelled by the next one that does.
    pub(super) async fn until_told_to_stop(mut self, catalog: &Catalog) -> CancellationToken {
        loop {
            tokio::select! {
                _ = self.term.recv() => { tracing::info!(signal = "TERM", "told to stop"); break }
                _ = self.int.recv() => { tracing::info!(signal = "INT", "told to stop"); break }
                _ = self.usr1.recv() => {
                    tracing::info!(signal = "USR1", "reading all sources now");
                    catalog.sync_now();
                }
                _ = self.hup.recv() => {
                    tracing::info!(signal = "HUP", "reading all sources now; settings are read at start only");
                    catalog.sync_now();
                }
            }
        }
        let hurry = CancellationToken::new();
        tokio::spawn({
            let hurry = hurry.clone();
            async move {
                tokio::select! {
                    _ = self.term.recv() => (),
                    _ = self.int.recv() => (),
                }
                hurry.cancel();
            }
        });
        hurry
    }
}
