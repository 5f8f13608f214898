//! Listens on the addresses of the settings, with a hint where that fails. It serves nothing.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::exit::Unavailable;

/// Ports below this one are for privileged processes, unless the host says otherwise.
const FIRST_FREE_PORT: u16 = 1024;

/// Listens on the address that `setting` names.
///
/// # Errors
///
/// When the system refuses; with a hint.
pub(super) async fn bind(setting: &str, addr: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr).await.map_err(|error| {
        let hint = hint(setting, addr, &error);
        anyhow::Error::new(Unavailable).context(format!("cannot listen on {addr}: {error} ({hint})"))
    })
}

fn hint(setting: &str, addr: SocketAddr, error: &io::Error) -> String {
    let port = addr.port();
    match error.kind() {
        ErrorKind::AddrInUse => format!("another runner? set {setting}, or 127.0.0.1:0 for a free port"),
        ErrorKind::PermissionDenied if (1..FIRST_FREE_PORT).contains(&port) => format!(
            "ports below {FIRST_FREE_PORT} need the right CAP_NET_BIND_SERVICE: give it to the process, or set {setting} \
             to a higher port"
        ),
        ErrorKind::AddrNotAvailable => {
            format!("no interface of this host has this address: correct {setting}, or write :{port} for all of them")
        }
        _ => format!("see {setting}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_hint_fits_its_cause() {
        for (addr, kind, words) in [
            (
                "127.0.0.1:8080",
                ErrorKind::AddrInUse,
                "another runner? set server.addr",
            ),
            ("127.0.0.1:80", ErrorKind::PermissionDenied, "CAP_NET_BIND_SERVICE"),
            ("127.0.0.1:8080", ErrorKind::PermissionDenied, "see server.addr"),
            ("192.0.2.1:80", ErrorKind::AddrNotAvailable, "write :80"),
        ] {
            let said = hint("server.addr", addr.parse().unwrap(), &io::Error::from(kind));
            assert!(said.contains(words), "{said}");
            assert_eq!(said.contains("another runner"), kind == ErrorKind::AddrInUse, "{said}");
        }
    }

    #[tokio::test]
    async fn an_address_in_use_is_said_to_be() {
        let first = bind("server.addr", "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let taken = first.local_addr().unwrap();
        let error = bind("server.metrics_addr", taken).await.unwrap_err().to_string();
        assert!(
            error.contains(&taken.to_string()) && error.contains("set server.metrics_addr"),
            "{error}"
        );
    }
}
