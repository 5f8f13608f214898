//! Sends spans and figures to a receiver by OTLP: protobuf over HTTP.
//!
//! Uses the HTTP client and the encoder that the program has anyway, so the feature adds no package. OpenTelemetry's SDK would
//! bring its own queue, which counts no losses, and its own metrics beside those of `/metrics`.

mod call;
mod encode;
mod points;
mod sender;
mod wire;

pub use sender::send;
