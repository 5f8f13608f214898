//! Which addresses an HTTP function may reach. Checked after name resolution, for every address to connect to, so that
//! neither an odd spelling nor a name that resolves differently each time evades it.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::HttpSettings;
use crate::glob;

/// The kind of network behind an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// The internet.
    Public,
    /// This machine or its network.
    Private,
    /// Never allowed: link-local (clouds serve credentials there), multicast, reserved.
    Never,
}

/// An address that may not be reached.
#[derive(Debug, thiserror::Error)]
#[error("`{host}` has only addresses that are not allowed ({addresses}); see handlers.http")]
struct Refused {
    host: String,
    addresses: String,
}

/// Whether this error comes from the guard.
pub(super) fn is_refusal(error: &reqwest::Error) -> bool {
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(error) = cause {
        if error.is::<Refused>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Checks the host of a URL if it is an address; names are checked when they are resolved.
pub(super) fn check(url: &Url, settings: &HttpSettings) -> Result<(), String> {
    let host = url.host_str().unwrap_or_default();
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    let allowed = &settings.allowed_hosts;
    if !allowed.is_empty() && !allowed.iter().any(|p| fits(p, plain)) {
        let allowed = allowed.join(", ");
        return Err(format!("`{plain}` is not in handlers.http.allowed_hosts ({allowed})"));
    }
    // Connections to the proxy are not checked, so nothing else may be called under its name.
    let is_proxy = settings.proxy.as_ref().is_some_and(|proxy| proxy.is_at(plain));
    if is_proxy && !settings.allow_private {
        return Err(format!("`{plain}` is the proxy of handlers.http itself"));
    }
    match plain.parse::<IpAddr>() {
        Ok(address) if !may_reach(address, plain, settings) => {
            Err(format!("the address {address} is not allowed; see handlers.http"))
        }
        _ => Ok(()),
    }
}

fn fits(pattern: &str, host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    glob::fits(&pattern.to_ascii_lowercase(), &host)
}

fn may_reach(address: IpAddr, host: &str, settings: &HttpSettings) -> bool {
    if settings.allow_private {
        return true;
    }
    match reach(address) {
        Reach::Public => true,
        Reach::Never => false,
        Reach::Private => {
            let mut named = settings.allowed_hosts.iter().filter(|p| p.as_str() != "*");
            named.any(|p| fits(p, host))
        }
    }
}

fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(v4) => reach_v4(v4),
        IpAddr::V6(v6) => reach_v6(v6),
    }
}

fn reach_v4(a: Ipv4Addr) -> Reach {
    match a.octets() {
        [127, ..] | [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Reach::Private,
        // 100.100.100.200 is a cloud's metadata service within the shared space of carriers.
        [100, 100, 100, 200] => Reach::Never,
        [100, 64..=127, ..] | [198, 18..=19, ..] => Reach::Private,
        [0, ..] | [169, 254, ..] | [192, 0, 0, _] | [224..=255, ..] => Reach::Never,
        _ => Reach::Public,
    }
}

fn reach_v6(a: Ipv6Addr) -> Reach {
    if let Some(v4) = embedded(a) {
        return reach_v4(v4);
    }
    match a.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Private,
        // The metadata services of two clouds.
        [0xfd00, 0xec2, .., 0x254] | [0xfd20, 0xce, .., 0x254] => Reach::Never,
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Reach::Private,
        // Only 2000::/3 is in use on the internet; the rest is unspecified, link-local, multicast, reserved.
        [0x2000..=0x3fff, ..] => Reach::Public,
        _ => Reach::Never,
    }
}

/// The IPv4 address inside an IPv6 address: mapped, compatible, NAT64, 6to4.
fn embedded(a: Ipv6Addr) -> Option<Ipv4Addr> {
    let [s0, s1, s2, s3, s4, s5, s6, s7] = a.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match [s0, s1, s2, s3, s4, s5] {
        [0, 0, 0, 0, 0, 0] if s6 != 0 => v4(s6, s7),
        [0, 0, 0, 0, 0, 0xffff] | [0, 0, 0, 0, 0xffff, 0] | [0x64, 0xff9b, 0, 0, 0, 0] => v4(s6, s7),
        // A network's own NAT64 prefix: the position of the address is unknown, so no address is allowed.
        [0x64, 0xff9b, 1, ..] => Some(Ipv4Addr::UNSPECIFIED),
        [0x2002, ..] => v4(s1, s2),
        _ => None,
    }
}

/// Resolves names and returns only allowed addresses. The client connects to what it returns, so nothing is resolved a second
/// time after the check.
pub(super) struct Resolver(Arc<HttpSettings>);

impl Resolver {
    pub(super) fn new(settings: Arc<HttpSettings>) -> Self {
        Self(settings)
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let settings = Arc::clone(&self.0);
        Box::pin(async move {
            let host = name.as_str();
            let all: Vec<SocketAddr> = tokio::net::lookup_host((host, 0)).await?.collect();
            if settings.proxy.as_ref().is_some_and(|proxy| proxy.is_at(host)) {
                return Ok(Box::new(all.into_iter()) as Addrs);
            }
            Ok(Box::new(allowed_of(all, host, &settings)?.into_iter()) as Addrs)
        })
    }
}

/// The addresses of `host` that may be reached.
fn allowed_of(all: Vec<SocketAddr>, host: &str, settings: &HttpSettings) -> Result<Vec<SocketAddr>, Refused> {
    let (allowed, refused): (Vec<_>, Vec<_>) = all.into_iter().partition(|a| may_reach(a.ip(), host, settings));
    if allowed.is_empty() && !refused.is_empty() {
        let addresses: Vec<_> = refused.iter().map(|a| a.ip().to_string()).collect();
        let (host, addresses) = (host.to_owned(), addresses.join(", "));
        return Err(Refused { host, addresses });
    }
    Ok(allowed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn allowed(url: &str, settings: &HttpSettings) -> bool {
        check(&Url::parse(url).unwrap(), settings).is_ok()
    }

    #[test]
    fn odd_spellings_of_internal_addresses_are_recognised() {
        let settings = HttpSettings::default();
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "0",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0xa9fea9fe",
            "100.64.0.1",
            "100.100.100.200",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:a9fe:a9fe]",
            "[::127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[64:ff9b:1::7f00:1]",
            "[2002:7f00:1::]",
            "[fe80::1]",
            "[fec0::1]",
            "[fd00:ec2::254]",
            "[fc00::1]",
            "[ff02::1]",
            "[::ffff:0:127.0.0.1]",
        ] {
            assert!(!allowed(&format!("http://{host}/"), &settings), "{host}");
        }
        for host in [
            "1.1.1.1",
            "172.32.0.1",
            "[2606:4700::1111]",
            "[::ffff:1.1.1.1]",
            "example.com",
        ] {
            assert!(allowed(&format!("http://{host}/"), &settings), "{host}");
        }
    }

    #[test]
    fn a_resolver_that_changes_its_answer_reaches_nothing_inside() {
        let inside: Vec<SocketAddr> = ["127.0.0.1:0", "169.254.169.254:0", "[::1]:0", "[::ffff:10.0.0.1]:0"]
            .iter()
            .map(|a| a.parse().unwrap())
            .collect();
        let outside: SocketAddr = "203.0.112.7:0".parse().unwrap();
        let settings = HttpSettings::default();
        for turn in 0..1000_usize {
            let answer = match turn % 3 {
                0 => vec![inside[turn % 4]],
                1 => vec![outside, inside[turn % 4]],
                _ => vec![outside],
            };
            let reached = allowed_of(answer, "rebinding.example", &settings);
            assert_eq!(reached.ok(), (turn % 3 != 0).then(|| vec![outside]), "{turn}");
        }
    }

    #[test]
    fn a_named_host_may_be_private_but_never_link_local() {
        let settings = |hosts: &[&str]| HttpSettings {
            allowed_hosts: hosts.iter().map(|h| (*h).to_owned()).collect(),
            ..HttpSettings::default()
        };
        let named = settings(&["127.0.0.1", "169.254.*", "*.Example.com"]);
        assert!(allowed("http://127.0.0.1:8080/", &named));
        assert!(allowed("http://api.EXAMPLE.com./", &named));
        assert!(!allowed("http://169.254.169.254/", &named));
        assert!(!allowed("http://example.org/", &named));
        assert!(!allowed("http://127.0.0.1/", &settings(&["*"])));
        let open = HttpSettings {
            allow_private: true,
            ..HttpSettings::default()
        };
        assert!(allowed("http://169.254.169.254/", &open));
    }
}
