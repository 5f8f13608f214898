//! Texts with `{{ … }}`, filled when a function runs: fields of its payload, and facts about its task and occurrence.
//!
//! Paths and a few filters only, without loops, calls or files, so that filling a text takes time proportional to it.

use std::collections::BTreeMap;
use std::fmt;

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};
use serde_json::Value;

/// The longest text that filling may yield, in bytes; as much as a task's result may be.
pub const MAX_FILLED_BYTES: usize = 1024 * 1024;

/// The root of everything in the payload; any path below it is allowed.
const PAYLOAD: &str = "payload";

/// All other names.
pub const TEMPLATE_NAMES: [&str; 10] = [
    "fire.scheduled_at",
    "fire.interval_start",
    "fire.kind",
    "fire.catch_up",
    "fire.missed",
    "schedule.id",
    "function.name",
    "task.id",
    "task.type",
    "task.queue",
];

const FILTERS: &str = "date('%F'), tz('Europe/Berlin'), add('-1d'), utc, unix, json, raw, default('…')";

/// A text with places to fill. If one exists, its expressions are well formed and every name but those of the payload is
/// known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FunctionTemplate {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Place(Expression),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Expression {
    /// As written, for messages.
    text: String,
    head: Head,
    filters: Vec<Filter>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Head {
    Literal(String),
    Name(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Filter {
    Date(String),
    Zone(String),
    Add(String),
    Utc,
    Unix,
    Json,
    Raw,
    Default(String),
}

/// Why a text is no template, or cannot be filled: the expression and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionTemplateFault(String);

impl fmt::Display for FunctionTemplateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FunctionTemplateFault {}

/// What templates of one task are filled with.
#[derive(Debug, Clone)]
pub struct TemplateScope {
    payload: Result<Value, String>,
    facts: BTreeMap<&'static str, String>,
}

impl TemplateScope {
    /// The fields of this payload; an empty one has none.
    #[must_use]
    pub fn of_payload(payload: &[u8]) -> Self {
        let payload = match payload.is_empty() {
            true => Ok(Value::Null),
            false => serde_json::from_slice(payload).map_err(|e| e.to_string()),
        };
        let facts = BTreeMap::new();
        Self { payload, facts }
    }

    /// Adds a fact under one of [`TEMPLATE_NAMES`].
    pub fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.facts.insert(name, value.into());
    }

    fn find(&self, name: &str) -> Result<Option<Value>, String> {
        let mut path = name.split('.');
        if path.next() != Some(PAYLOAD) {
            return Ok(self.facts.get(name).map(|text| Value::from(text.as_str())));
        }
        let payload = self.payload.as_ref();
        let mut found = Some(payload.map_err(|why| format!("the payload is not JSON ({why})"))?);
        for step in path {
            found = match found {
                Some(Value::Array(items)) => step.parse::<usize>().ok().and_then(|index| items.get(index)),
                Some(other) => other.get(step),
                None => None,
            };
        }
        Ok(found.filter(|value| !value.is_null()).cloned())
    }
}

impl FunctionTemplate {
    /// Reads a text.
    ///
    /// # Errors
    ///
    /// The first expression that is wrong.
    pub fn parse(text: &str) -> Result<Self, FunctionTemplateFault> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let Some(end) = end_of(after) else {
                return Err(FunctionTemplateFault("\"{{\" without \"}}\"".to_owned()));
            };
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::Place(Expression::parse(after[..end].trim())?));
            rest = &after[end + 2..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { parts })
    }

    /// The whole text, if nothing in it is to be filled.
    #[must_use]
    pub fn fixed(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether it names the payload or a field of it.
    #[must_use]
    pub fn uses_payload(&self) -> bool {
        let of_payload = |name: &str| name.split('.').next() == Some(PAYLOAD);
        self.places()
            .any(|place| matches!(&place.head, Head::Name(name) if of_payload(name)))
    }

    fn places(&self) -> impl Iterator<Item = &Expression> {
        self.parts.iter().filter_map(|part| match part {
            Part::Place(place) => Some(place),
            Part::Text(_) => None,
        })
    }

    /// The text with its places filled.
    ///
    /// # Errors
    ///
    /// A value that is missing or does not fit its filter, or a text above [`MAX_FILLED_BYTES`].
    pub fn fill(&self, scope: &TemplateScope) -> Result<String, FunctionTemplateFault> {
        self.fill_with(scope, |text| text)
    }

    /// As [`Self::fill`], with every value but those of the filter `raw` passed through `escape`.
    ///
    /// # Errors
    ///
    /// As [`Self::fill`].
    pub fn fill_with(
        &self,
        scope: &TemplateScope,
        escape: impl Fn(String) -> String,
    ) -> Result<String, FunctionTemplateFault> {
        let mut filled = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Place(place) => {
                    let text = text_of(place.value(scope)?);
                    let raw = place.filters.contains(&Filter::Raw);
                    filled.push_str(&if raw { text } else { escape(text) });
                }
            }
            if filled.len() > MAX_FILLED_BYTES {
                return Err(FunctionTemplateFault(format!(
                    "it is longer than {MAX_FILLED_BYTES} bytes"
                )));
            }
        }
        Ok(filled)
    }

    /// As [`Self::fill`], but a text that is one expression keeps the type of its value: a number stays a number. A field
    /// that is missing or null there is null.
    ///
    /// # Errors
    ///
    /// As [`Self::fill`].
    pub fn value(&self, scope: &TemplateScope) -> Result<Value, FunctionTemplateFault> {
        match self.parts.as_slice() {
            [Part::Place(place)] if place.is_missing_field(scope) => Ok(Value::Null),
            [Part::Place(place)] => place.value(scope),
            _ => self.fill(scope).map(Value::from),
        }
    }
}

/// Where the expression ends that begins here: at the first `}}` outside quotes.
fn end_of(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '}') if text[at..].starts_with("}}") => return Some(at),
            _ => (),
        }
    }
    None
}

/// The parts between bars outside quotes.
fn split_at_bars(text: &str) -> Vec<&str> {
    let (mut parts, mut from, mut quote) = (Vec::new(), 0, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '|') => {
                parts.push(text[from..at].trim());
                from = at + 1;
            }
            _ => (),
        }
    }
    parts.push(text[from..].trim());
    parts
}

/// The text between equal quotes that has none of them inside.
fn unquoted(text: &str) -> Option<&str> {
    ['\'', '"'].iter().find_map(|quote| {
        let inner = text.strip_prefix(*quote)?.strip_suffix(*quote)?;
        (!inner.contains(*quote)).then_some(inner)
    })
}

impl Expression {
    fn parse(text: &str) -> Result<Self, FunctionTemplateFault> {
        let fault = |why: &str| FunctionTemplateFault(format!("{{{{ {text} }}}}: {why}"));
        let parts = split_at_bars(text);
        let (head, filters) = parts.split_first().map_or(("", &[][..]), |(head, rest)| (*head, rest));
        let head = match unquoted(head) {
            Some(literal) => Head::Literal(literal.to_owned()),
            None => Head::Name(name(head).map_err(|why| fault(&why))?),
        };
        let filters = filters
            .iter()
            .map(|text| Filter::parse(text).map_err(|why| fault(&why)));
        Ok(Self {
            text: text.to_owned(),
            head,
            filters: filters.collect::<Result<_, _>>()?,
        })
    }

    /// Whether it is a field of the payload that is not there, without a default.
    fn is_missing_field(&self, scope: &TemplateScope) -> bool {
        let Head::Name(name) = &self.head else { return false };
        let has_default = self.filters.iter().any(|filter| matches!(filter, Filter::Default(_)));
        name.split('.').next() == Some(PAYLOAD) && !has_default && matches!(scope.find(name), Ok(None))
    }

    fn value(&self, scope: &TemplateScope) -> Result<Value, FunctionTemplateFault> {
        let fault = |why: String| FunctionTemplateFault(format!("{{{{ {} }}}}: {why}", self.text));
        let mut value = match &self.head {
            Head::Literal(text) => Some(Value::from(text.as_str())),
            Head::Name(name) => scope.find(name).map_err(fault)?,
        };
        let mut zone = TimeZone::UTC;
        for filter in &self.filters {
            value = filter.apply(value, &mut zone).map_err(fault)?;
        }
        value.ok_or_else(|| {
            let why = match &self.head {
                Head::Name(name) if name.starts_with("fire.") || name.starts_with("schedule.") => {
                    "only a task of a schedule has it; add | default('…') for others"
                }
                _ => "there is no such value; add | default('…') if it may be missing",
            };
            fault(why.to_owned())
        })
    }
}

/// A known name, or any path below the payload.
fn name(text: &str) -> Result<String, String> {
    let plain = |step: &str| !step.is_empty() && step.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    let well_formed = text.split('.').all(plain);
    let root = text.split('.').next().unwrap_or_default();
    if well_formed && (root == PAYLOAD || TEMPLATE_NAMES.contains(&text)) {
        return Ok(text.to_owned());
    }
    let names = TEMPLATE_NAMES.join(", ");
    Err(format!(
        "unknown variable; known are payload, its fields such as payload.day, and {names}"
    ))
}

impl Filter {
    fn parse(text: &str) -> Result<Self, String> {
        let (name, argument) = match text.split_once('(') {
            Some((name, rest)) => {
                let argument = rest.strip_suffix(')').and_then(|inner| unquoted(inner.trim()));
                let argument = argument.ok_or_else(|| format!("write {}('…')", name.trim()))?;
                (name.trim(), Some(argument.to_owned()))
            }
            None => (text, None),
        };
        match (name, argument) {
            ("date", Some(format)) => {
                let sample = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
                let tried = jiff::fmt::strtime::format(&format, &sample);
                tried.map(|_| Self::Date(format)).map_err(|e| e.to_string())
            }
            ("tz", Some(zone)) => match TimeZone::get(&zone) {
                Ok(_) => Ok(Self::Zone(zone)),
                Err(_) => Err(format!("unknown time zone {zone:?}")),
            },
            ("add", Some(span)) => match span.parse::<Span>() {
                Ok(_) => Ok(Self::Add(span)),
                Err(_) => Err(format!("{span:?} is no span of time such as -1d or 2h")),
            },
            ("default", Some(text)) => Ok(Self::Default(text)),
            ("utc", None) => Ok(Self::Utc),
            ("unix", None) => Ok(Self::Unix),
            ("json", None) => Ok(Self::Json),
            ("raw", None) => Ok(Self::Raw),
            _ => Err(format!("unknown filter {text:?}; known are {FILTERS}")),
        }
    }

    /// The value behind this filter. `zone` is that in which times are written.
    fn apply(&self, value: Option<Value>, zone: &mut TimeZone) -> Result<Option<Value>, String> {
        if let Self::Default(text) = self {
            return Ok(Some(value.unwrap_or_else(|| Value::from(text.as_str()))));
        }
        let Some(value) = value else { return Ok(None) };
        Ok(Some(match self {
            Self::Date(format) => {
                let time = time_of(&value)?.with_time_zone(zone.clone());
                let text = jiff::fmt::strtime::format(format, &time).map_err(|e| e.to_string())?;
                Value::from(text)
            }
            Self::Zone(name) => {
                *zone = TimeZone::get(name).map_err(|e| e.to_string())?;
                written(&time_of(&value)?, zone)
            }
            Self::Add(span) => {
                let span: Span = span.parse().map_err(|e: jiff::Error| e.to_string())?;
                let time = time_of(&value)?.with_time_zone(zone.clone());
                written(&time.checked_add(span).map_err(|e| e.to_string())?, zone)
            }
            Self::Utc => {
                *zone = TimeZone::UTC;
                written(&time_of(&value)?, zone)
            }
            Self::Unix => Value::from(time_of(&value)?.timestamp().as_second()),
            Self::Json => Value::from(value.to_string()),
            Self::Raw | Self::Default(_) => value,
        }))
    }
}

/// A time as RFC 3339 in this zone.
fn written(time: &Zoned, zone: &TimeZone) -> Value {
    let utc = *zone == TimeZone::UTC;
    let text = match utc {
        true => time.timestamp().to_string(),
        false => time
            .with_time_zone(zone.clone())
            .strftime("%Y-%m-%dT%H:%M:%S%:z")
            .to_string(),
    };
    Value::from(text)
}

/// An instant: RFC 3339, or seconds since 1970.
fn time_of(value: &Value) -> Result<Zoned, String> {
    let timestamp = match value {
        Value::String(text) => text.parse::<Timestamp>().ok(),
        Value::Number(number) => number.as_i64().and_then(|n| Timestamp::from_second(n).ok()),
        _ => None,
    };
    let time = timestamp.map(|t| t.to_zoned(TimeZone::UTC));
    time.ok_or_else(|| format!("{value} is no time such as 2030-01-01T00:00:00Z"))
}

fn text_of(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn scope() -> TemplateScope {
        let mut scope =
            TemplateScope::of_payload(br#"{"n":3,"name":"Ann <a>","list":[{"x":true}],"none":null,"t":1893456000}"#);
        scope.set("fire.scheduled_at", "2030-01-01T02:30:00Z");
        scope.set("function.name", "report");
        scope
    }

    fn filled(text: &str) -> String {
        let filled = FunctionTemplate::parse(text).and_then(|template| template.fill(&scope()));
        filled.unwrap_or_else(|fault| format!("fault: {fault}"))
    }

    #[test]
    fn places_are_filled() {
        for (text, expected) in [
            ("plain } {", "plain } {"),
            ("", ""),
            ("{{ payload.n }} of {{payload.list.0.x}}", "3 of true"),
            ("{{ payload.name }}", "Ann <a>"),
            ("{{ payload.list }}", r#"[{"x":true}]"#),
            ("{{ function.name }}", "report"),
            ("{{ fire.scheduled_at }}", "2030-01-01T02:30:00Z"),
            ("{{ fire.scheduled_at | date('%F %H:%M') }}", "2030-01-01 02:30"),
            (
                "{{ fire.scheduled_at | tz('Asia/Shanghai') | date(\"%F %H\") }}",
                "2030-01-01 10",
            ),
            (
                "{{ fire.scheduled_at | tz('Asia/Shanghai') }}",
                "2030-01-01T10:30:00+08:00",
            ),
            ("{{ fire.scheduled_at | add('-1d') | date('%F') }}", "2029-12-31"),
            ("{{ fire.scheduled_at | unix }}", "1893465000"),
            ("{{ payload.t | utc }}", "2030-01-01T00:00:00Z"),
            ("{{ payload.missing | default('}} | x') }}", "}} | x"),
            ("{{ payload.none | default('-') }}", "-"),
            ("{{ payload.name | json }}", r#""Ann <a>""#),
            ("{{ '{{' }}", "{{"),
        ] {
            assert_eq!(filled(text), expected, "{text}");
        }
    }

    #[test]
    fn faults_name_the_expression() {
        for (text, expected) in [
            ("{{ payload.n", "without"),
            ("{{ fire.intervalstart }}", "unknown variable; known are payload"),
            ("{{ }}", "unknown variable"),
            ("{{ payload..n }}", "unknown variable"),
            ("{{ payload.n | upper }}", "unknown filter \"upper\""),
            ("{{ payload.n | date(%F) }}", "write date('…')"),
            ("{{ payload.t | date('%!') }}", "{{ payload.t | date('%!') }}: "),
            ("{{ payload.t | tz('Moon/Sea') }}", "unknown time zone"),
            ("{{ payload.t | add('soon') }}", "no span of time"),
            ("{{ payload.name | date('%F') }}", "is no time"),
            ("{{ payload.missing }}", "there is no such value"),
            ("{{ fire.interval_start }}", "only a task of a schedule has it"),
        ] {
            let fault = filled(text);
            assert!(
                fault.starts_with("fault: ") && fault.contains(expected),
                "{text}: {fault}"
            );
        }
        let not_json = FunctionTemplate::parse("{{ payload.a }}")
            .unwrap()
            .fill(&TemplateScope::of_payload(b"x"));
        assert!(not_json.unwrap_err().to_string().contains("the payload is not JSON"));
    }

    #[test]
    fn one_expression_keeps_its_type() {
        let value = |text: &str| FunctionTemplate::parse(text).unwrap().value(&scope()).unwrap();
        assert_eq!(value("{{ payload.n }}"), Value::from(3));
        assert_eq!(value("{{ payload.n }}."), Value::from("3."));
        assert_eq!(value("{{ payload.none }}"), Value::Null);
        assert_eq!(value("{{ payload.missing }}"), Value::Null);
        assert_eq!(value("{{ payload.missing | default('x') }}"), Value::from("x"));
    }

    #[test]
    fn values_are_escaped_unless_they_are_raw() {
        let fill = |text: &str| {
            let template = FunctionTemplate::parse(text).unwrap();
            template.fill_with(&scope(), |text| text.replace('<', "&lt;")).unwrap()
        };
        assert_eq!(
            fill("<p>{{ payload.name }} {{ payload.name | raw }}"),
            "<p>Ann &lt;a> Ann <a>"
        );
    }

    #[test]
    fn a_text_that_grows_too_long_is_a_fault() {
        let scope = TemplateScope::of_payload(format!("{{\"a\":\"{}\"}}", "x".repeat(100_000)).as_bytes());
        let template = FunctionTemplate::parse(&"{{ payload.a }}".repeat(20)).unwrap();
        assert!(template.fill(&scope).unwrap_err().to_string().contains("longer than"));
        assert!(template.uses_payload() && template.fixed().is_none());
        assert_eq!(FunctionTemplate::parse("a").unwrap().fixed(), Some("a"));
    }
}
