//! `echo`: writes its payload to the run's log and returns it. For first steps and for probes.

use runner_sdk::{Bytes, Ctx, Raw};

/// Returns the payload as the result, byte for byte.
pub(crate) async fn echo(Raw(payload): Raw, cx: Ctx) -> Bytes {
    cx.log().push("log", &String::from_utf8_lossy(&payload));
    payload
}
