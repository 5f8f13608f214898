//! The built-in handlers, one line each; each is implemented in its own file.
//!
//! They know only tasks: no broker, no worker, no manifest. Manifest functions reach them as [`Functions`], under task
//! types that begin with `fn:`.

mod context;
mod echo;
mod enqueue;
mod exec;
mod exhausted;
mod glob;
mod guard;
mod http;
mod kinds;
mod mail;
mod misconfigured;
mod notification;
mod publish;
mod scope;
mod secret;
mod sleep;
mod sql;
mod stopped;
mod wasm;

pub use exec::{ExecSettings, exit_code_in, try_run_directory};
pub use guard::{can_guard, guard_main, is_guard};
pub use http::{HttpProxy, HttpSettings, ProxyUrl};
pub use kinds::HandlerSettings;
pub use mail::{MailLogin, MailSettings, MailTls};
pub use notification::{
    CHANNEL_VALUES, Channel, ChannelTemplate, ChannelText, Channels, DEFAULT_PER_MINUTE, Escapes, LimitedChannel,
    NOTIFICATION_VALUES, RobotSignature, SERVICES,
};
pub use publish::{
    Addressed, MessagePublisher, OutgoingMessage, PublishConnections, PublishFailure, Published, Publisher,
};
pub use sql::{SqlConnection, SqlConnections};

use runner_core::function::Functions;
use runner_core::notification::NOTIFICATION_TYPE;
use runner_core::task::FUNCTION_PREFIX;
use runner_sdk::{Backoff, Registry};

/// The longest delay that a command or a server may request: a typing error there must not postpone a task for years.
pub(crate) const MAX_RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(3600);

/// Registers the built-in handlers, with default settings and no functions.
#[must_use]
pub fn register(r: Registry) -> Registry {
    register_with(r, Functions::default(), HandlerSettings::default())
}

/// As [`register`], with settings and the functions of manifests; the caller keeps a clone of `functions` and replaces its
/// content.
#[must_use]
pub fn register_with(r: Registry, functions: Functions, settings: HandlerSettings) -> Registry {
    let (known, listed) = (functions.clone(), functions.clone());
    let (claims, lists) = (settings.clone(), settings.clone());
    let sender = notification::ChannelSender::new(&settings);
    let sends = !settings.channels.is_empty();
    let r = r
        .state(functions)
        .state(sender)
        .state(kinds::Kinds::new(settings))
        .on("echo", echo::echo)
        .on("sleep", sleep::sleep)
        .on_prefix_listed(
            FUNCTION_PREFIX,
            move |name| known.get(name).is_some_and(|f| claims.runs(&f.kind)),
            move || names(&listed, &lists),
            kinds::run,
        )
        .backoff(FUNCTION_PREFIX, Backoff::Function);
    match sends {
        // Without channels the notifications of other instances are left to those.
        false => r,
        true => r
            .on(NOTIFICATION_TYPE, notification::run)
            .backoff(NOTIFICATION_TYPE, Backoff::Function)
            .aggregate(notification::GROUPS, notification::combine),
    }
}

/// The names of the functions that this package runs, and not a handler elsewhere.
fn names(functions: &Functions, settings: &HandlerSettings) -> Vec<String> {
    let all = functions.all();
    let here = all.values().filter(|f| settings.runs(&f.kind));
    here.map(|f| f.name.clone()).collect()
}
