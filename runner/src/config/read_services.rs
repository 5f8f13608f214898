//! Reads the services that a channel of notifications can name as its kind: those that are built in, and those of a file of
//! the same form.

use std::collections::BTreeMap;
use std::sync::Arc;

use runner_core::template::{JsonTemplate, Template};
use runner_handlers::{CHANNEL_VALUES, ChannelTemplate, Escapes, NOTIFICATION_VALUES, RobotSignature, SERVICES};
use serde_json::Value as Json;

use crate::text::quoted;
use crate::text::yaml::{self, MAX_BYTES, Node, Value};

/// ChannelServices by their names.
pub type ChannelServices = BTreeMap<String, Arc<ChannelTemplate>>;

const KEYS: [&str; 6] = ["url", "body", "defaults", "accept", "escape", "sign"];

/// The built-in services, and those of the file with this text.
///
/// # Errors
///
/// What is wrong, with the line in the file.
pub fn services(own: Option<&str>) -> Result<ChannelServices, String> {
    let mut all = read(SERVICES)?;
    if let Some(own) = own {
        all.extend(read(own)?);
    }
    Ok(all)
}

/// The text of a file of services.
///
/// # Errors
///
/// Why it cannot be read.
pub fn read_file(path: &std::path::Path) -> Result<String, String> {
    let found = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !found.is_file() || found.len() > MAX_BYTES as u64 {
        return Err(format!("it is no file of at most {MAX_BYTES} bytes"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

fn read(text: &str) -> Result<ChannelServices, String> {
    let parsed = yaml::parse(text).map_err(|fault| {
        let line = fault.mark.unwrap_or_default().line;
        format!("line {line}: {}", fault.message)
    })?;
    let node = yaml::only(parsed).map_err(|second| format!("line {}: a second document", second.line))?;
    let all = entries(&node, "the file")?;
    let one = |(name, node): (&str, &Node)| {
        let read = service(node).map_err(|why| format!("line {}: {name}: {why}", node.mark.line))?;
        Ok((name.to_owned(), Arc::new(read)))
    };
    all.into_iter().map(one).collect()
}

fn service(node: &Node) -> Result<ChannelTemplate, String> {
    let fields = entries(node, "it")?;
    if let Some((unknown, _)) = fields.iter().find(|(key, _)| !KEYS.contains(key)) {
        return Err(format!("unknown key {}; known: {}", quoted(unknown), KEYS.join(", ")));
    }
    let field = |key: &str| fields.iter().find(|(name, _)| *name == key).map(|(_, node)| *node);
    let required = |key: &str| field(key).ok_or_else(|| format!("{key} is missing"));
    let url = text(required("url")?).ok_or("url must be a text")?;
    let template = ChannelTemplate {
        url: Template::parse(url).map_err(|fault| format!("url: {fault}"))?,
        body: JsonTemplate::new(json(required("body")?)).map_err(|fault| format!("body: {fault}"))?,
        defaults: match field("defaults") {
            Some(node) => defaults(node)?,
            None => BTreeMap::new(),
        },
        accept: match field("accept") {
            Some(node) => Some(accept(node)?),
            None => None,
        },
        escape: field("escape").map_or_else(|| Ok(Escapes::default()), escape)?,
        sign: field("sign").map(sign).transpose()?,
    };
    let unfit = template.unfit_in_url();
    match template.unknown() {
        None if unfit.is_some() => Err(format!(
            "url: {{{{ {} }}}} may be in the body only; an address may have {}, event, action",
            unfit.unwrap_or_default(),
            CHANNEL_VALUES.join(", ")
        )),
        Some(name) => Err(format!(
            "{{{{ {name} }}}} names nothing; known: {}, and of the channel: {}",
            NOTIFICATION_VALUES.join(", "),
            CHANNEL_VALUES.join(", ")
        )),
        None => Ok(template),
    }
}

fn defaults(node: &Node) -> Result<BTreeMap<String, String>, String> {
    let one = |(key, node): (&str, &Node)| match text(node) {
        Some(text) if CHANNEL_VALUES.contains(&key) => Ok((key.to_owned(), text.to_owned())),
        _ => Err(format!(
            "defaults: {key} must be a text, of {}",
            CHANNEL_VALUES.join(", ")
        )),
    };
    entries(node, "defaults")?.into_iter().map(one).collect()
}

fn accept(node: &Node) -> Result<(String, Json), String> {
    match entries(node, "accept")?.as_slice() {
        [(member, wanted)] => Ok(((*member).to_owned(), json(wanted))),
        _ => Err("accept must be one member and its value".to_owned()),
    }
}

fn escape(node: &Node) -> Result<Escapes, String> {
    let one = |(from, node): (&str, &Node)| match text(node) {
        Some(to) if !from.is_empty() => Ok((from.to_owned(), to.to_owned())),
        _ => Err("escape must be texts, by what each is replaced".to_owned()),
    };
    let pairs: Result<Vec<_>, _> = entries(node, "escape")?.into_iter().map(one).collect();
    pairs.map(Escapes::new)
}

fn sign(node: &Node) -> Result<RobotSignature, String> {
    let named = text(node).and_then(|name| RobotSignature::NAMES.iter().find(|(known, _)| *known == name));
    named.map(|(_, signature)| *signature).ok_or_else(|| {
        format!(
            "sign must be one of {}",
            RobotSignature::NAMES.map(|(name, _)| name).join(", ")
        )
    })
}

fn entries<'a>(node: &'a Node, what: &str) -> Result<Vec<(&'a str, &'a Node)>, String> {
    let Value::Map(all) = &node.value else {
        return Err(format!("{what} must be a map"));
    };
    let one = |(key, node): &'a (Node, Node)| match text(key) {
        Some(key) => Ok((key, node)),
        None => Err(format!("a key of {what} must be a text")),
    };
    all.iter().map(one).collect()
}

fn text(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn json(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(flag) => (*flag).into(),
        Value::Int(number) => i64::try_from(*number).map_or_else(|_| number.to_string().into(), Json::from),
        Value::Float(number) => (*number).into(),
        Value::Text(text) => text.as_str().into(),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(members) => {
            let one = |(key, node): &(Node, Node)| (text(key).unwrap_or_default().to_owned(), json(node));
            Json::Object(members.iter().map(one).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_built_in_services_are_well_formed() {
        let all = services(None).unwrap();
        let names: Vec<&str> = all.keys().map(String::as_str).collect();
        let expected = [
            "dingtalk",
            "discord",
            "feishu",
            "pagerduty",
            "slack",
            "teams",
            "telegram",
            "wecom",
        ];
        assert_eq!(names, expected);
        assert_eq!(all["slack"].needs(), ["url"]);
        assert_eq!(all["telegram"].needs(), ["token", "to"]);
        assert_eq!(all["pagerduty"].needs(), ["key"]);
        assert_eq!(all["wecom"].accept, Some(("errcode".to_owned(), 0.into())));
    }

    #[test]
    fn a_file_adds_services_and_its_faults_are_named() {
        let own =
            "pager: {url: 'https://p/{{ key }}', body: {message: '{{ title }}'}}\nslack: {url: 'https://x', body: 1}\n";
        let all = services(Some(own)).unwrap();
        assert_eq!(all["pager"].needs(), ["key"]);
        assert!(all["slack"].needs().is_empty(), "it replaces the built-in one");
        for (text, expected) in [
            ("a: 1", "a: it must be a map"),
            ("a: {body: 1}", "line 1: a: url is missing"),
            ("a: {url: '{{ urk }}', body: 1}", "{{ urk }} names nothing"),
            ("a: {url: x, body: 1, hint: 2}", "unknown key \"hint\""),
            ("a: {url: '{{', body: 1}", "is not closed"),
            ("a: {url: x, body: 1, accept: {}}", "accept must be one member"),
            (
                "a: {url: '{{ url }}?{{ error }}', body: 1}",
                "{{ error }} may be in the body only",
            ),
            ("a: {url: x, body: 1, escape: {a: 1}}", "escape must be texts"),
            (
                "a: {url: x, body: 1, sign: rsa}",
                "sign must be one of dingtalk, feishu",
            ),
            ("[", "line 1"),
        ] {
            let why = services(Some(text)).unwrap_err();
            assert!(why.contains(expected), "{text}: {why}");
        }
    }
}
