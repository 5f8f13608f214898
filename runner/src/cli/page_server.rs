//! What serves pages, probes and metrics: the listeners of a process, and the server of each.
//!
//! What is served is in `web`. In a program that was built without it there are no pages, so no server is made.

use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::listen::bind;
use crate::config::Settings;

/// The listeners, bound before anything starts: an address in use ends the start.
pub(super) struct Listeners {
    /// The dashboard, if the process has that role.
    pub(super) web: Option<TcpListener>,
    /// Probes and metrics on an address of their own.
    pub(super) probes: Option<TcpListener>,
}

impl Listeners {
    pub(super) async fn bind(settings: &Settings) -> anyhow::Result<Self> {
        let web = match settings.roles.web {
            true => Some(bind("server.addr", settings.addr).await?),
            false => None,
        };
        let probes = match settings.metrics_addr {
            Some(addr) => Some(bind("server.metrics_addr", addr).await?),
            None => None,
        };
        Ok(Self { web, probes })
    }
}

pub(super) fn address_of(listener: &TcpListener) -> anyhow::Result<SocketAddr> {
    listener.local_addr().context("the listener has no address")
}

/// What a server of this process shows.
#[cfg(feature = "web")]
pub(super) use crate::web::AppState as Pages;

/// There is no such value.
#[cfg(not(feature = "web"))]
pub(super) enum Pages {}

#[cfg(feature = "web")]
use crate::web::serve;

#[cfg(not(feature = "web"))]
async fn serve(pages: Pages, _: TcpListener, _: CancellationToken) {
    match pages {}
}

/// Pages that can be served.
pub(super) struct Serving {
    address: SocketAddr,
    app: Pages,
    listener: TcpListener,
}

impl Serving {
    pub(super) fn new(app: Pages, listener: TcpListener) -> anyhow::Result<Self> {
        Ok(Self {
            address: address_of(&listener)?,
            app,
            listener,
        })
    }

    pub(super) fn start(self) -> PageServer {
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(self.app, self.listener, stop.clone()));
        PageServer {
            address: self.address,
            stop,
            task,
        }
    }
}

/// A server that runs.
pub(super) struct PageServer {
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// Ends it.
    pub(super) stop: CancellationToken,
    /// Ends when it has ended.
    pub(super) task: JoinHandle<()>,
}
