//! Pages, and answers of the API, are sent small, and only when they changed: gzip, and a tag that lets a browser ask whether anything is new.
//!
//! Not here: how long files are cached (`assets`).

use std::io::Write as _;

use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use runner_core::schedule::stable_hash;
use sha2::{Digest as _, Sha256};

use crate::text::hex;

/// Larger answers are sent as they are: a page with a task of several megabytes.
const LONGEST: usize = 4 << 20;
/// Shorter ones gain nothing.
const SHORTEST: usize = 1024;
/// Most of what level 6 saves, in a third of its time: a page takes less than a millisecond.
const LEVEL: u32 = 3;

/// What changes with every look although nothing happened: ages, which browsers count on by themselves, and the clock.
const VOLATILE: [(&str, &str); 2] = [("<span class=\"ago\">", "</span>"), ("<footer", "</footer>")];

/// Says who sent a browser here.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Tags pages, answers "not modified", compresses.
pub async fn lighten(request: Request, next: Next) -> Response {
    let asked = ConditionalRequest::of(request.method(), request.headers());
    let response = next.run(request).await;
    if !asked.get || response.status() != StatusCode::OK {
        return response;
    }
    let kind = response.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let page = kind.starts_with("text/html");
    let data = kind.starts_with("application/json");
    if !page && !data && !kind.starts_with("text/css") && !kind.starts_with("text/javascript") {
        return response;
    }
    // Pages and assets are rendered as a whole, so their length is known.
    if response
        .body()
        .size_hint()
        .upper()
        .is_none_or(|length| length > LONGEST as u64)
    {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, LONGEST).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    // A page that sets a cookie shows something once.
    if (page || data) && !parts.headers.contains_key(header::SET_COOKIE) {
        let own = parts.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok());
        let tag = if let Some(own) = own {
            own.to_owned()
        } else if page {
            page_tag(&String::from_utf8_lossy(&bytes))
        } else {
            data_tag(&bytes)
        };
        let known = asked.tag.as_deref() == Some(tag.as_str());
        if let Ok(value) = HeaderValue::from_str(&tag) {
            parts.headers.insert(header::ETAG, value);
        }
        if known {
            parts.status = StatusCode::NOT_MODIFIED;
            parts.headers.remove(header::CONTENT_LENGTH);
            parts.headers.remove(header::CONTENT_TYPE);
            return Response::from_parts(parts, Body::empty());
        }
    }
    parts
        .headers
        .append(header::VARY, HeaderValue::from_static("accept-encoding"));
    if !asked.gzip || bytes.len() < SHORTEST {
        return Response::from_parts(parts, Body::from(bytes));
    }
    let Some(packed) = packed(&bytes) else {
        return Response::from_parts(parts, Body::from(bytes));
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    parts
        .headers
        .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    Response::from_parts(parts, Body::from(packed))
}

/// What a request says about the form of its answer.
struct ConditionalRequest {
    get: bool,
    gzip: bool,
    tag: Option<String>,
}

impl ConditionalRequest {
    fn of(method: &Method, headers: &HeaderMap) -> Self {
        let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let gzip = text(&header::ACCEPT_ENCODING).is_some_and(accepts_gzip);
        // The length of a compressed page depends on what it contains. Another site could open pages with texts of its
        // choice, and learn the token of the forms from their lengths.
        let foreign = text(&FETCH_SITE).is_some_and(|site| !matches!(site, "same-origin" | "none"));
        Self {
            get: method == Method::GET,
            gzip: gzip && !foreign,
            tag: text(&header::IF_NONE_MATCH).map(|tag| tag.trim_start_matches("W/").to_owned()),
        }
    }
}

fn accepts_gzip(list: &str) -> bool {
    list.split(',').any(|item| {
        let mut parts = item.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let refused = parts.any(|weight| matches!(weight, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        named && !refused
    })
}

/// A tag of all bytes: what data contains may look like the parts of a page.
fn data_tag(data: &[u8]) -> String {
    let digest = Sha256::digest(data);
    format!("\"{}\"", hex(&digest[..16]))
}

/// A tag of everything in a page that is not [`VOLATILE`].
fn page_tag(page: &str) -> String {
    let mut kept = Vec::new();
    let mut rest = page;
    while let Some((at, end)) = VOLATILE
        .iter()
        .filter_map(|(begin, end)| Some((rest.find(begin)?, *end)))
        .min()
    {
        kept.push(&rest[..at]);
        let after = &rest[at..];
        rest = after.find(end).map_or("", |end| &after[end..]);
    }
    kept.push(rest);
    format!("\"{:016x}\"", stable_hash(&kept))
}

fn packed(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut packer = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::new(LEVEL));
    packer.write_all(bytes).ok()?;
    packer.finish().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_of_a_page_changes_with_what_happened_and_not_with_the_time() {
        let page = |ago: &str, n: u32, clock: &str| {
            format!("<p><time><span class=\"ago\">{ago}</span></time> {n}</p><footer>{clock}</footer></html>")
        };
        let first = page_tag(&page("1 s ago", 1, "14:00:01"));
        assert_eq!(first, page_tag(&page("5 min 03 s ago", 1, "14:05:03")));
        assert_ne!(first, page_tag(&page("1 s ago", 2, "14:00:01")));
        assert_ne!(page_tag("<footer"), page_tag(""));
    }

    #[test]
    fn the_tag_of_data_is_of_all_its_bytes() {
        for (begin, end) in VOLATILE {
            let of = |rest: &str| data_tag(format!("[{begin} 1{end}, {rest}]").as_bytes());
            assert_eq!(of("2"), of("2"));
            assert_ne!(of("2"), of("3"));
            assert_ne!(
                data_tag(format!("{begin} 1").as_bytes()),
                data_tag(format!("{begin} 2").as_bytes())
            );
        }
        assert_ne!(data_tag(&[0xff]), data_tag(&[0xfe]));
    }

    #[test]
    fn gzip_is_used_where_it_is_accepted_and_gives_nothing_away() {
        for (list, expected) in [
            ("gzip, br", true),
            ("br;q=1, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("deflate", false),
            ("", false),
        ] {
            assert_eq!(accepts_gzip(list), expected, "{list}");
        }
        let headers = |site: &'static str| {
            HeaderMap::from_iter([
                (header::ACCEPT_ENCODING, HeaderValue::from_static("gzip")),
                (FETCH_SITE, HeaderValue::from_static(site)),
            ])
        };
        assert!(ConditionalRequest::of(&Method::GET, &headers("same-origin")).gzip);
        assert!(!ConditionalRequest::of(&Method::GET, &headers("cross-site")).gzip);
        assert!(!ConditionalRequest::of(&Method::GET, &headers("same-site")).gzip);
    }
}
