//! Names under which browsers reach the dashboard: `server.public_url`, the `Origin` of a form, the path before
//! `/queue`.
//!
//! Parses and validates; `reached_by` decides which of them apply to a request.

use std::str::FromStr;

use http::Uri;

/// The longest path before `/queue`, in bytes. Real ones have one or two words.
const LONGEST_BASE: usize = 200;

/// The configured address that people open: `https://tools.example.com/ops`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    /// Scheme and host.
    pub origin: HttpOrigin,
    /// The path before `/queue`: empty, or without a trailing slash.
    pub base: String,
}

impl PublicUrl {
    /// Whether it names this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback_name(self.origin.name())
    }

    /// The address of the overview.
    #[must_use]
    pub fn first_page(&self) -> String {
        format!("{}{}/queue", self.origin.as_text(), self.base)
    }
}

impl FromStr for PublicUrl {
    type Err = &'static str;

    /// The error completes "is not a public address: ".
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uri: Uri = text.trim().parse().map_err(|_| "it is not a URL")?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("it must begin with http:// or https://"),
        };
        let authority = uri.authority().map_or("", |a| a.as_str());
        if uri.query().is_some() || text.contains('#') {
            return Err("it must end with the path, without ? and #");
        }
        let base = base_path(uri.path()).ok_or("its path has characters that a proxy would not pass on as they are")?;
        Ok(Self {
            origin: HttpOrigin::new(https, authority)
                .ok_or("its host must be a name or an address, with a port at most")?,
            base,
        })
    }
}

/// Scheme and host of a page, as browsers send them in `Origin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpOrigin {
    /// Whether the scheme is `https`.
    pub https: bool,
    /// Host and port in lower case, without the scheme's default port.
    authority: String,
}

impl HttpOrigin {
    /// From a scheme and a `Host` header or similar.
    #[must_use]
    pub fn new(https: bool, authority: &str) -> Option<Self> {
        let (name, port) = name_and_port(authority)?;
        let usual = if https { "443" } else { "80" };
        Some(Self {
            https,
            authority: match port {
                Some(port) if port != usual => format!("{}:{port}", name.to_ascii_lowercase()),
                _ => name.to_ascii_lowercase(),
            },
        })
    }

    /// From an `Origin` header; `None` for `null` and other schemes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once("://")? {
            ("https", authority) => Self::new(true, authority),
            ("http", authority) => Self::new(false, authority),
            _ => None,
        }
    }

    /// The host without its port.
    #[must_use]
    pub fn name(&self) -> &str {
        name_and_port(&self.authority).map_or("", |(name, _)| name)
    }

    /// The port, unless it is the scheme's default.
    #[must_use]
    pub fn port(&self) -> &str {
        name_and_port(&self.authority).and_then(|(_, port)| port).unwrap_or("")
    }

    /// Whether `authority`, a `Host` header or similar, names the same host and port.
    #[must_use]
    pub fn is_at(&self, authority: &str) -> bool {
        Self::new(self.https, authority).is_some_and(|other| other.authority == self.authority)
    }

    /// As browsers write it.
    #[must_use]
    pub fn as_text(&self) -> String {
        format!("{}://{}", if self.https { "https" } else { "http" }, self.authority)
    }
}

/// Host and port of a `Host` header; `None` if it contains anything else.
#[must_use]
pub fn name_and_port(authority: &str) -> Option<(&str, Option<&str>)> {
    let (name, port) = match authority.rfind(':') {
        Some(colon) if !authority.ends_with(']') => (&authority[..colon], Some(&authority[colon + 1..])),
        _ => (authority, None),
    };
    let numeric = port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    let clean = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-_[]:".contains(&b));
    (numeric && clean).then_some((name, port))
}

/// The names that always mean this machine.
#[must_use]
pub fn is_loopback_name(name: &str) -> bool {
    matches!(name, "localhost" | "127.0.0.1" | "[::1]")
}

/// A path to put before `/queue`: `/ops/` is `/ops`, `/` is empty. `None` unless every character is literal in an
/// address, a header and a cookie's path, and no segment leads elsewhere.
#[must_use]
pub fn base_path(text: &str) -> Option<String> {
    let path = text.trim().trim_end_matches('/');
    if path.is_empty() {
        return Some(String::new());
    }
    let parts = path.strip_prefix('/')?.split('/');
    let clean = |part: &str| {
        !matches!(part, "" | "." | "..") && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
    };
    let good = path.len() <= LONGEST_BASE && parts.into_iter().all(clean);
    good.then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn public_addresses_are_read_whole_or_refused() {
        for (text, origin, base) in [
            ("https://jobs.example.com", "https://jobs.example.com", ""),
            ("https://Jobs.example.com:443/", "https://jobs.example.com", ""),
            ("http://10.0.0.5:8080/ops/jobs/", "http://10.0.0.5:8080", "/ops/jobs"),
            ("https://[::1]:8443/a", "https://[::1]:8443", "/a"),
        ] {
            let url: PublicUrl = text.parse().unwrap();
            assert_eq!(
                (url.origin.as_text().as_str(), url.base.as_str()),
                (origin, base),
                "{text}"
            );
        }
        for bad in [
            "jobs.example.com",
            "ftp://a/",
            "https://",
            "https://ann:pw@a/",
            "https://a/?x=1",
            "https://a/#x",
            "https://a//b",
            "https://a/../b",
            "https://a/%2e%2e",
            "/ops",
            "",
        ] {
            assert!(bad.parse::<PublicUrl>().is_err(), "{bad}");
        }
        assert_eq!(
            "https://a/ops".parse::<PublicUrl>().unwrap().first_page(),
            "https://a/ops/queue"
        );
    }

    #[test]
    fn only_the_default_port_of_the_scheme_is_implied() {
        let origin = HttpOrigin::parse("https://jobs.example.com").unwrap();
        assert!(origin.is_at("jobs.example.com") && origin.is_at("JOBS.example.com:443"));
        assert!(!origin.is_at("jobs.example.com:80") && !origin.is_at("jobs.example.com:8443"));
        let other = HttpOrigin::parse("http://jobs.example.com:8080").unwrap();
        assert!(other.is_at("jobs.example.com:8080") && !other.is_at("jobs.example.com"));
        assert_eq!(
            (other.name(), other.port(), origin.port()),
            ("jobs.example.com", "8080", "")
        );
        for bad in [
            "null",
            "jobs.example.com",
            "file://x",
            "https://a@b",
            "https://",
            "https://a:b",
        ] {
            assert_eq!(HttpOrigin::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_ports_are_ignored() {
        assert_eq!(name_and_port("localhost:8080"), Some(("localhost", Some("8080"))));
        assert_eq!(name_and_port("[::1]:80"), Some(("[::1]", Some("80"))));
        assert_eq!(name_and_port("[::1]"), Some(("[::1]", None)));
        for odd in ["", ":80", "a:b", "a@localhost", "localhost/", "localhost:"] {
            assert_eq!(name_and_port(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_base_path_cannot_leave_its_site() {
        for (text, base) in [
            ("/ops", "/ops"),
            ("/ops/", "/ops"),
            ("/", ""),
            ("", ""),
            ("/a/b-1.~_", "/a/b-1.~_"),
        ] {
            assert_eq!(base_path(text).as_deref(), Some(base), "{text}");
        }
        let long = format!("/{}", "a".repeat(LONGEST_BASE));
        for bad in [
            "ops",
            "//evil.example",
            "/a//b",
            "/..",
            "/a/../b",
            "/a;x",
            "/a%2f",
            "/a\\b",
            "/a b",
            "/\"",
            &long,
        ] {
            assert_eq!(base_path(bad), None, "{bad}");
        }
    }
}
