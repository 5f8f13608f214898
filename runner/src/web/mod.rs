//! The dashboard at `/queue`, and what machines ask of the process: health, readiness, metrics.
//!
//! Reads and forwards, decides nothing: data comes from the broker and from the sources, actions go to the
//! broker. Every page works without a script.

mod act;
mod assets;
mod desk;
mod fault;
mod frame;
mod gate;
mod guard;
mod lane;
mod pages;
mod paint;
mod payload;
mod probe;
mod public;
mod routes;
mod scrape;
mod seats;
mod serve;
mod settings;
mod site;
mod stream;
mod text;
mod trust;
mod unclaimed;
mod urls;
mod visitor;
mod words;

pub use desk::{Desk, Parts};
pub use paint::TemplateFault;
pub use public::PublicUrl;
pub use routes::router;
pub use serve::serve;
pub use settings::{Auth, Role, Settings, User};
pub use trust::TrustedProxies;
