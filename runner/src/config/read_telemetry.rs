//! Reads `telemetry`: where spans and figures go, in programs that can send them.

use std::time::Duration;

use http::HeaderName;

use super::reader::SettingPlace;
use super::section::Section;
use crate::telemetry::{HeaderText, METRICS_INTERVAL, OtlpSettings, SERVICE_NAME};

/// Headers of each call.
const MAX_HEADERS: usize = 20;

/// How often figures may be sent.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3600);

const BUILD: &str = "build it with `cargo build --release --features otlp`, or remove the section";

/// Reads the section; `None`: nothing is sent.
pub fn read(root: &Section<'_>) -> Option<OtlpSettings> {
    let telemetry = root.section("telemetry");
    let otlp = telemetry.section("otlp");
    let is_built = cfg!(feature = "otlp");
    let standard = |name: &str| {
        let found = root
            .reader()
            .environment
            .get(name)
            .filter(|text| !text.trim().is_empty());
        found.filter(|_| is_built).map(|text| text.trim().to_owned())
    };
    let written = otlp.text("endpoint");
    let is_set = written.is_some() || otlp.written();
    let disabled = standard("OTEL_SDK_DISABLED").is_some_and(|word| word.eq_ignore_ascii_case("true"));
    let by_default = standard("OTEL_EXPORTER_OTLP_ENDPOINT").filter(|_| !disabled);
    let endpoint = match written {
        Some(found) => Some(stated(&otlp, found.value.trim(), &found.place)),
        None => by_default.and_then(|url| of_variable(&otlp, &url)),
    };
    let headers = headers(&otlp);
    let headers = match headers.is_empty() {
        true => standard("OTEL_EXPORTER_OTLP_HEADERS").map_or_else(Vec::new, |list| listed(&list)),
        false => headers,
    };
    let name = otlp.text("service_name").map(|found| found.value);
    let settings = OtlpSettings {
        endpoint: endpoint.clone().unwrap_or_default(),
        headers,
        service_name: name
            .or_else(|| standard("OTEL_SERVICE_NAME"))
            .filter(|name| !name.trim().is_empty())
            .unwrap_or_else(|| SERVICE_NAME.to_owned()),
        traces: part(&otlp),
        metrics: otlp.flag("metrics").unwrap_or(true),
        interval: otlp
            .duration("interval", SHORTEST..=LONGEST)
            .unwrap_or(METRICS_INTERVAL),
    };
    if is_set && !is_built {
        let message = "this program was built without OpenTelemetry (feature otlp)";
        otlp.reader().error_hint("CFG_OTLP", &otlp.place(), message, BUILD);
    } else if is_set && endpoint.is_none() {
        let message = "telemetry.otlp.endpoint is missing";
        let hint = "the URL before /v1/traces, such as http://127.0.0.1:4318";
        otlp.reader().error_hint("CFG_OTLP", &otlp.place(), message, hint);
    }
    otlp.finish();
    telemetry.finish();
    (is_built && endpoint.is_some()).then_some(settings)
}

/// Which part of the traces is recorded.
fn part(otlp: &Section<'_>) -> f64 {
    let Some(found) = otlp.text("traces") else { return 1.0 };
    let part = found.value.trim().parse().ok();
    part.filter(|part| (0.0..=1.0).contains(part)).unwrap_or_else(|| {
        let message = format!(
            "telemetry.otlp.traces must be a number from 0 to 1, not {:?}",
            found.value
        );
        let hint = "0.1 records one trace of ten";
        otlp.reader().error_hint("CFG_RANGE", &found.place, message, hint);
        1.0
    })
}

/// The endpoint of the file, without a slash at its end.
fn stated(otlp: &Section<'_>, url: &str, place: &SettingPlace) -> String {
    if let Some((what, hint)) = fault(url) {
        let message = format!("telemetry.otlp.endpoint {what}");
        otlp.reader().error_hint("CFG_OTLP", place, message, hint);
    }
    url.trim_end_matches('/').to_owned()
}

/// That of the standard variable. Others may have set it for all programs of a host, so it refuses no start.
fn of_variable(otlp: &Section<'_>, url: &str) -> Option<String> {
    const NAME: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let protocol = otlp
        .reader()
        .environment
        .get("OTEL_EXPORTER_OTLP_PROTOCOL")
        .map(str::trim);
    let other = protocol.filter(|known| !known.is_empty() && *known != "http/protobuf");
    let grpc = other.map(|_| {
        (
            "is not for http/protobuf, says OTEL_EXPORTER_OTLP_PROTOCOL",
            "set telemetry.otlp.endpoint",
        )
    });
    let Some((what, hint)) = grpc.or_else(|| fault(url)) else {
        return Some(url.trim_end_matches('/').to_owned());
    };
    let place = SettingPlace::Variable(NAME.to_owned());
    let message = format!("{NAME} {what}; nothing is sent");
    otlp.reader()
        .warning("CFG_OTLP", &place, message, Some(hint.to_owned()));
    None
}

/// What is wrong with a URL, and what helps.
fn fault(url: &str) -> Option<(&'static str, &'static str)> {
    let url = url.trim_end_matches('/');
    let parsed = url.parse::<http::Uri>().ok();
    let is_web = |uri: &http::Uri| matches!(uri.scheme_str(), Some("http" | "https"));
    let Some(uri) = parsed.filter(is_web) else {
        return Some(("must be a URL with http or https", "such as http://127.0.0.1:4318"));
    };
    let authority = uri.authority()?;
    if authority.as_str().contains('@') {
        return Some(("must not hold a user or a password", "use telemetry.otlp.headers"));
    }
    if uri.query().is_some() {
        return Some(("must not have a query", "the URL before /v1/traces"));
    }
    if url.ends_with("/v1/traces") || url.ends_with("/v1/metrics") {
        return Some((
            "must end before /v1/traces",
            "spans and figures have the paths that OTLP says",
        ));
    }
    (authority.port_u16() == Some(4317)).then_some((
        "has the port of gRPC, and this program sends protobuf over HTTP",
        "the usual port for that is 4318",
    ))
}

fn headers(otlp: &Section<'_>) -> Vec<(String, HeaderText)> {
    let all = otlp.secrets("headers");
    if all.len() > MAX_HEADERS {
        let message = format!("telemetry.otlp.headers names more than {MAX_HEADERS}");
        otlp.reader().error("CFG_RANGE", &otlp.place(), message);
    }
    for (name, _) in &all {
        if HeaderName::try_from(name.value.as_str()).is_err() {
            let message = format!("telemetry.otlp.headers: {:?} is no name of a header", name.value);
            otlp.reader().error("CFG_VALUE", &name.place, message);
        }
    }
    let text = |secret: super::Secret| HeaderText::read_from(move || secret.read());
    all.into_iter()
        .map(|(name, secret)| (name.value, text(secret)))
        .collect()
}

/// `key=value,key=value`, with values as in a URL. Parts without a name are left out.
fn listed(list: &str) -> Vec<(String, HeaderText)> {
    let pairs = list.split(',').filter_map(|pair| pair.split_once('='));
    let named = pairs.filter(|(name, _)| HeaderName::try_from(name.trim()).is_ok());
    named
        .take(MAX_HEADERS)
        .map(|(name, value)| {
            let value = decoded(value.trim());
            (name.trim().to_owned(), HeaderText::read_from(move || Ok(value.clone())))
        })
        .collect()
}

/// `%20` and the like as the bytes that they stand for; anything else as it is.
fn decoded(value: &str) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(value.len()), value.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits
            .filter(|_| *first == b'%')
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = &after[if byte.is_some() { 2 } else { 0 }..];
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::config::{Environment, Refused, Settings};
    use crate::telemetry::OtlpSettings;

    fn parse(text: &str, variables: &[(&str, &str)]) -> Result<Option<OtlpSettings>, Refused> {
        Ok(Settings::parse("c", text, &Environment::of(variables))?.telemetry)
    }

    #[test]
    fn nothing_is_sent_unless_a_receiver_is_named() {
        assert!(parse("", &[]).unwrap().is_none());
        let set = parse(
            "telemetry: {otlp: {endpoint: 'http://h:4318/', traces: 0.25, headers: {a: b}}}",
            &[],
        );
        let set = set.unwrap().unwrap();
        assert_eq!((set.endpoint.as_str(), set.traces), ("http://h:4318", 0.25));
        assert_eq!(
            (set.metrics, set.interval.as_secs(), set.service_name.as_str()),
            (true, 60, "runner")
        );
        assert_eq!(set.headers[0].1.read().as_deref(), Ok("b"));
        assert!(!format!("{set:?}").contains("\"b\""));
    }

    #[test]
    fn the_standard_variables_are_defaults() {
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20a+b=,x=1, =2"),
            ("OTEL_SERVICE_NAME", "nightly"),
        ];
        let set = parse("", &variables).unwrap().unwrap();
        assert_eq!(
            (set.endpoint.as_str(), set.service_name.as_str()),
            ("http://collector:4318", "nightly")
        );
        let headers: Vec<_> = set
            .headers
            .iter()
            .map(|(name, text)| (name.as_str(), text.read().unwrap()))
            .collect();
        assert_eq!(
            headers,
            [("authorization", "Bearer a+b=".to_owned()), ("x", "1".to_owned())]
        );
        let own = parse(
            "telemetry: {otlp: {endpoint: 'http://own:1', service_name: mine}}",
            &variables,
        );
        let own = own.unwrap().unwrap();
        assert_eq!(
            (own.endpoint.as_str(), own.service_name.as_str()),
            ("http://own:1", "mine")
        );
        let mut off = variables.to_vec();
        off.push(("OTEL_SDK_DISABLED", "true"));
        assert!(parse("", &off).unwrap().is_none());
        for more in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ] {
            let mut grpc = variables.to_vec();
            grpc.push(more);
            let settings = Settings::parse("c", "", &Environment::of(&grpc)).unwrap();
            assert!(settings.telemetry.is_none(), "{more:?}");
            assert!(
                settings.warnings.iter().any(|warning| warning.code == "CFG_OTLP"),
                "said: {more:?}"
            );
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_hint() {
        for (otlp, expected) in [
            ("{}", "telemetry.otlp.endpoint is missing"),
            ("{service_name: x}", "telemetry.otlp.endpoint is missing"),
            ("{endpoint: 'h:4318'}", "must be a URL with http or https"),
            ("{endpoint: 'http://h:4317'}", "4318"),
            ("{endpoint: 'http://u:hunter2@h'}", "must not hold a user"),
            ("{endpoint: 'http://h/v1/traces'}", "must end before /v1/traces"),
            ("{endpoint: 'http://h', traces: 1.5}", "traces"),
            ("{endpoint: 'http://h', interval: 1ms}", "interval"),
            ("{endpoint: 'http://h', headers: {'a b': c}}", "no name of a header"),
            ("{endpoint: 'http://h', protocol: grpc}", "protocol"),
        ] {
            let said = format!("{:?}", parse(&format!("telemetry: {{otlp: {otlp}}}"), &[]).unwrap_err());
            assert!(said.contains(expected) && !said.contains("hunter2"), "{otlp}: {said}");
        }
    }
}
