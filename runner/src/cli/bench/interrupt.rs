//! What ends a measurement before its time: the signals that ask a program to stop.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::exit::Stopped;

/// Installs handlers for both; from then on neither kills the process.
pub(super) struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Returns when one of them comes, with which one it was.
    pub(super) async fn stopped(&mut self) -> Stopped {
        let signal = tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
        };
        Stopped(signal.as_raw_value())
    }
}
