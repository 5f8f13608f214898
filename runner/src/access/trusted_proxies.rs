//! Reverse proxies: which connections come from one, and the client address that they forward.

use std::net::IpAddr;

use http::HeaderMap;
use ipnet::IpNet;

/// Maximum number of proxies in a chain.
const HOPS: usize = 16;

/// Proxies whose `X-Forwarded-…` headers count.
#[derive(Debug, Clone)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    listed: bool,
}

impl Default for TrustedProxies {
    /// A proxy on this machine may forward name and path. Its client address is not used: any local program could forge one,
    /// and the limits for wrong passwords and the audit lines depend on it.
    fn default() -> Self {
        let loopback = [IpAddr::from([127, 0, 0, 0]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
        let lengths = [8, 128];
        Self {
            networks: loopback
                .into_iter()
                .zip(lengths)
                .map(|(address, length)| IpNet::new_assert(address, length))
                .collect(),
            listed: false,
        }
    }
}

impl TrustedProxies {
    /// The configured proxies; an empty list trusts no address.
    #[must_use]
    pub fn listed(networks: Vec<IpNet>) -> Self {
        Self { networks, listed: true }
    }

    /// Whether they were configured.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.listed
    }

    /// Whether `address` belongs to a proxy.
    #[must_use]
    pub fn covers(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// The client of a request from `peer`: the last address in `X-Forwarded-For` that is not a trusted proxy. Entries further
    /// left may be forged.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.listed {
            return client;
        }
        for hop in forwarded_for(headers).take(HOPS) {
            if !self.covers(client) {
                break;
            }
            match hop {
                Some(address) => client = address,
                None => break,
            }
        }
        client
    }
}

/// The addresses in `X-Forwarded-For`, nearest first; `None` for an unreadable one.
pub fn forwarded_for(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    let lines = headers.get_all("x-forwarded-for").into_iter().rev();
    lines.flat_map(|line| line.to_str().unwrap_or("?").rsplit(',').map(address))
}

/// An address with or without a port.
pub fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
        .map(|(inside, _)| inside);
    let without_port = text
        .rsplit_once(':')
        .map(|(before, _)| before)
        .filter(|before| !before.contains(':'));
    let parsed = bare
        .unwrap_or(text)
        .parse()
        .or_else(|error| without_port.map_or(Err(error), str::parse::<IpAddr>));
    parsed.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn headers(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        headers
    }

    #[test]
    fn the_client_is_the_last_address_that_no_proxy_has() {
        let trusted = TrustedProxies::listed(vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
        for (peer, lines, client) in [
            ("10.0.0.1", &["203.0.113.7"][..], "203.0.113.7"),
            ("10.0.0.1", &["1.1.1.1, 203.0.113.7, 10.2.2.2"], "203.0.113.7"),
            ("10.0.0.1", &["1.1.1.1", "203.0.113.7:4711"], "203.0.113.7"),
            ("10.0.0.1", &["[2001:db8::1]:80"], "2001:db8::1"),
            ("10.0.0.1", &["2001:db8::1"], "2001:db8::1"),
            ("::ffff:10.0.0.1", &["203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &["10.3.3.3"], "10.3.3.3"),
            ("10.0.0.1", &["203.0.113.7, nonsense"], "10.0.0.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("203.0.113.9", &["1.1.1.1"], "203.0.113.9"),
        ] {
            assert_eq!(
                trusted.client(ip(peer), &headers(lines)),
                ip(client),
                "{peer} {lines:?}"
            );
        }
    }

    #[test]
    fn without_a_list_no_local_program_chooses_its_address() {
        let usual = TrustedProxies::default();
        assert!(usual.covers(ip("127.0.0.1")) && usual.covers(ip("127.9.9.9")) && usual.covers(ip("::1")));
        assert!(usual.covers(ip("::ffff:127.0.0.1")) && !usual.covers(ip("10.0.0.1")));
        assert_eq!(usual.client(ip("127.0.0.1"), &headers(&["1.1.1.1"])), ip("127.0.0.1"));
        let none = TrustedProxies::listed(Vec::new());
        assert!(!none.covers(ip("127.0.0.1")));
        assert_eq!(none.client(ip("127.0.0.1"), &headers(&["1.1.1.1"])), ip("127.0.0.1"));
    }

    #[test]
    fn a_long_list_is_not_followed_to_its_end() {
        let trusted = TrustedProxies::listed(vec!["10.0.0.0/8".parse().unwrap()]);
        let long = format!("203.0.113.7{}", ", 10.1.1.1".repeat(HOPS));
        assert_eq!(trusted.client(ip("10.0.0.1"), &headers(&[&long])), ip("10.1.1.1"));
    }
}
