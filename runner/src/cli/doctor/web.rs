//! Whether an instance answers at the configured address, and whether it is ready.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::diagnosis::{Diagnosis, Level};
use crate::config::Settings;

/// How long the answer may take.
const LIMIT: Duration = Duration::from_secs(3);

/// Bytes of an answer that are read.
const MAX_ANSWER: u64 = 4096;

/// The area.
const AREA: &str = "instance";

pub(super) async fn look(settings: &Settings) -> Diagnosis {
    let addr = settings.addr;
    let target = match addr.ip().is_unspecified() {
        true => SocketAddr::new(std::net::Ipv4Addr::LOCALHOST.into(), addr.port()),
        false => addr,
    };
    match tokio::time::timeout(LIMIT, readiness(target)).await {
        Ok(Ok((200, _))) => Diagnosis::new(Level::Ok, AREA, format!("the one at {target} is ready")),
        Ok(Ok((status, body))) => {
            let first = body.lines().next().unwrap_or_default();
            let text = format!("the one at {target} is not ready ({status}): {first}");
            Diagnosis::new(Level::Error, AREA, text).hint(format!("curl http://{target}/readyz has the details"))
        }
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            let text = format!("none answers at {target}");
            Diagnosis::new(Level::Warning, AREA, text).hint("start `runner`, unless it runs elsewhere")
        }
        Ok(Err(error)) => Diagnosis::new(Level::Warning, AREA, format!("{target}: {error}")),
        Err(_) => {
            let text = format!("the one at {target} gives no answer within {} s", LIMIT.as_secs());
            Diagnosis::new(Level::Error, AREA, text).hint("it hangs, or another program has the port")
        }
    }
}

/// Status and body of `/readyz`.
async fn readiness(target: SocketAddr) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(target).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let status = status.ok_or_else(|| std::io::Error::other("another program than runner answers there"))?;
    Ok((status, body.to_owned()))
}
