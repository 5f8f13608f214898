//! Hosts with ports as people write them, and the paths of sockets.

/// `host` or `host:port`, IPv6 in brackets.
pub(super) fn split_host(text: &str, default_port: u16) -> Result<(String, u16), String> {
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    if text.contains("://") || text.contains(['/', '@', ' ', ',']) {
        return Err("it must be one host and port, without a scheme, user or path".to_owned());
    }
    let bracketed = text.starts_with('[');
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !bracketed || host.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    if host.is_empty() || (host.contains(':') && !bracketed) || bracketed != host.ends_with(']') {
        return Err("the host is missing or an IPv6 address is not in brackets".to_owned());
    }
    let port = match port {
        None => default_port,
        Some(port) => match port.parse::<u16>() {
            Ok(number) if number > 0 => number,
            _ => return Err("the port is not a number from 1 to 65535".to_owned()),
        },
    };
    Ok((host.to_owned(), port))
}

/// A host and port, or the path of a socket. Drivers want an IPv6 address without its brackets.
pub(super) fn database_host(text: &str, default_port: u16) -> Result<(String, u16), String> {
    if text.starts_with('/') {
        return Ok((text.to_owned(), default_port));
    }
    let (host, port) = split_host(text, default_port)?;
    Ok((host.trim_matches(['[', ']']).to_owned(), port))
}
