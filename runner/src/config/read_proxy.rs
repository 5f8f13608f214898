//! Reads how browsers reach the dashboard: `server.public_url` and `server.trusted_proxies`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::reader::Located;
use super::section::Section;
use crate::access::{PublicUrl, TrustedProxies};

/// Networks in the list, at most: a proxy has a few addresses, a content network some dozens of ranges.
const MOST_NETWORKS: usize = 256;

/// The address that users open, if it is not the one that the dashboard listens on.
pub fn public_url(server: &Section<'_>) -> Option<PublicUrl> {
    let found = server
        .text("public_url")
        .filter(|found| !found.value.trim().is_empty())?;
    let url: PublicUrl = match found.value.parse() {
        Ok(url) => url,
        Err(why) => {
            let message = format!("{:?} is not a public address: {why}", found.value);
            let hint = "for example https://runner.example.com or https://tools.example.com/ops";
            server.reader().error_hint("CFG_PROXY", &found.place, message, hint);
            return None;
        }
    };
    if url.base.ends_with("/queue") {
        let message = format!(
            "the dashboard is at {}: it adds /queue to server.public_url",
            url.first_page()
        );
        let hint = "leave out /queue at the end unless the proxy takes that away".to_owned();
        server.reader().warning("CFG_PROXY", &found.place, message, Some(hint));
    }
    Some(url)
}

/// The proxies whose `X-Forwarded-…` headers are trusted; by default those on this machine.
pub fn trusted_proxies(server: &Section<'_>) -> TrustedProxies {
    let Some(written) = server.list("trusted_proxies") else {
        return TrustedProxies::default();
    };
    if written.len() > MOST_NETWORKS {
        let place = written[MOST_NETWORKS].place.clone();
        let message = format!("server.trusted_proxies has more than {MOST_NETWORKS} entries");
        server.reader().error("CFG_RANGE", &place, message);
        return TrustedProxies::default();
    }
    TrustedProxies::listed(written.iter().filter_map(|found| network(server, found)).collect())
}

fn network(server: &Section<'_>, found: &Located<String>) -> Option<IpNet> {
    let text = found.value.trim();
    let parsed = text
        .parse::<IpNet>()
        .or_else(|error| text.parse::<IpAddr>().map(IpNet::from).map_err(|_| error));
    let complain = |message: String| {
        let hint = "an address or a network, for example 127.0.0.1, 10.0.0.0/8 or fd00::/8";
        server.reader().error_hint("CFG_PROXY", &found.place, message, hint);
    };
    match parsed {
        Ok(network) if network.prefix_len() == 0 => {
            complain(format!(
                "{text} trusts every address, so that any client could write the headers"
            ));
            None
        }
        Ok(network) => Some(network.trunc()),
        Err(_) => {
            complain(format!("{:?} is not a network", found.value));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::config::{Environment, Settings};

    fn parsed(text: &str) -> Result<Settings, String> {
        Settings::parse("c", text, &Environment::default()).map_err(|refused| refused.to_string())
    }

    #[test]
    fn a_public_address_and_proxies_are_read() {
        let settings = parsed(
            "server: {public_url: \"https://tools.example.com/ops/\", trusted_proxies: [10.0.0.0/8, \"::1\", 192.0.2.7]}\n\
             auth: {users: [{name: ann, password: pw}]}",
        )
        .unwrap();
        assert_eq!(
            settings.web.public_url.unwrap().first_page(),
            "https://tools.example.com/ops/queue"
        );
        let proxies = settings.web.trusted_proxies;
        for (address, trusted) in [
            ("10.200.0.1", true),
            ("::ffff:10.0.0.1", true),
            ("::1", true),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("127.0.0.1", false),
        ] {
            assert_eq!(proxies.covers(address.parse().unwrap()), trusted, "{address}");
        }
        assert!(settings.warnings.is_empty());
        let usual = parsed("").unwrap();
        assert!(usual.web.public_url.is_none() && usual.web.trusted_proxies.covers("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn what_trusts_everybody_or_is_no_address_is_refused() {
        for (text, code) in [
            ("server: {trusted_proxies: [0.0.0.0/0]}", "CFG_PROXY"),
            ("server: {trusted_proxies: [\"::/0\"]}", "CFG_PROXY"),
            ("server: {trusted_proxies: [nginx]}", "CFG_PROXY"),
            ("server: {trusted_proxies: [10.0.0.0/33]}", "CFG_PROXY"),
            ("server: {trusted_proxies: 10.0.0.1}", "CFG_TYPE"),
            ("server: {public_url: tools.example.com/ops}", "CFG_PROXY"),
            ("server: {public_url: \"https://a/?x\"}", "CFG_PROXY"),
        ] {
            let refused = parsed(text).unwrap_err();
            assert!(refused.contains(code), "{text}: {refused}");
        }
    }

    #[test]
    fn an_address_that_others_reach_without_a_login_is_warned_of() {
        let warned = |text: &str| {
            let warnings = parsed(text).unwrap().warnings;
            warnings.iter().map(|w| w.to_string()).collect::<Vec<_>>().join("\n")
        };
        assert!(warned("server: {public_url: \"https://jobs.example.com\"}").contains("no users are configured"));
        assert_eq!(warned("server: {public_url: \"http://localhost:8080\"}"), "");
        assert_eq!(
            warned("server: {public_url: \"https://jobs.example.com\", addr: \":8080\"}"),
            ""
        );
        let doubled = warned("server: {public_url: \"http://localhost/queue\"}");
        assert!(doubled.contains("http://localhost/queue/queue"), "{doubled}");
    }
}
