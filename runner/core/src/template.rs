//! Texts with places for values of an event: `{{ message.message_id }}`, and JSON made of them.
//!
//! Places name values and do nothing else: no functions, no conditions, no loops. Who knows the values is not known here.

use serde_json::{Map, Value};

/// The longest template in bytes; it is a line of a manifest.
pub const MAX_TEMPLATE: usize = 4 * 1024;

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct TemplateFault {
    why: String,
    /// The bytes in question.
    pub at: std::ops::Range<usize>,
}

/// The name in a template that has no value in this event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} has no value")]
pub struct NoValue(pub String);

/// The values of an event by their names: `["message", "headers", "tenant"]`.
pub trait Values {
    /// The value, if the event has one of this name.
    fn value(&self, path: &[String]) -> Option<Value>;
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Place(Vec<String>),
}

/// A text with places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

impl Template {
    /// Reads a text. `{{` opens a place and `}}` closes it; there is no way to write them otherwise.
    ///
    /// # Errors
    ///
    /// Where it is not well formed.
    pub fn parse(text: &str) -> Result<Self, TemplateFault> {
        let wrong = |why: &str, at: std::ops::Range<usize>| TemplateFault {
            why: why.to_owned(),
            at,
        };
        if text.len() > MAX_TEMPLATE {
            return Err(wrong("a template has at most 4096 bytes", 0..text.len()));
        }
        let (mut parts, mut at) = (Vec::new(), 0);
        while let Some(open) = text[at..].find("{{").map(|n| at + n) {
            let Some(close) = text[open..].find("}}").map(|n| open + n) else {
                return Err(wrong("\"{{\" is not closed by \"}}\"", open..text.len()));
            };
            let inside = text[open + 2..close].trim();
            let names: Vec<String> = inside.split('.').map(str::to_owned).collect();
            if !names.iter().all(|name| is_name(name)) {
                let why = format!("{inside:?} is not a name such as message.body or message.headers.tenant");
                return Err(wrong(&why, open..close + 2));
            }
            if open > at {
                parts.push(Part::Text(text[at..open].to_owned()));
            }
            parts.push(Part::Place(names));
            at = close + 2;
        }
        if at < text.len() {
            parts.push(Part::Text(text[at..].to_owned()));
        }
        Ok(Self(parts))
    }

    /// The names of its places.
    pub fn places(&self) -> impl Iterator<Item = &[String]> {
        self.0.iter().filter_map(|part| match part {
            Part::Place(path) => Some(path.as_slice()),
            Part::Text(_) => None,
        })
    }

    /// The name, if the template is one place and nothing else.
    #[must_use]
    pub fn only_place(&self) -> Option<&[String]> {
        match self.0.as_slice() {
            [Part::Place(path)] => Some(path),
            _ => None,
        }
    }

    /// The text with values: texts as they are, others as JSON, an absent `null` as nothing.
    ///
    /// # Errors
    ///
    /// [`NoValue`].
    pub fn text(&self, values: &dyn Values) -> Result<String, NoValue> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Place(path) => match find(values, path)? {
                    Value::String(value) => text.push_str(&value),
                    Value::Null => {}
                    other => text.push_str(&other.to_string()),
                },
            }
        }
        Ok(text)
    }

    /// The value: of one place as it is, with its type; else the text.
    ///
    /// # Errors
    ///
    /// [`NoValue`].
    pub fn value(&self, values: &dyn Values) -> Result<Value, NoValue> {
        match self.only_place() {
            Some(path) => find(values, path),
            None => self.text(values).map(Value::String),
        }
    }
}

fn find(values: &dyn Values, path: &[String]) -> Result<Value, NoValue> {
    values.value(path).ok_or_else(|| NoValue(path.join(".")))
}

/// Letters of headers and fields: all but white space, dots, braces and quotes.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_-:/$@".contains(c))
}

/// JSON whose texts are templates.
#[derive(Debug, Clone, PartialEq)]
pub enum JsonTemplate {
    /// A text.
    Text(Template),
    /// A number, a flag, nothing.
    Plain(Value),
    /// A list.
    List(Vec<JsonTemplate>),
    /// An object.
    Object(Vec<(String, JsonTemplate)>),
}

impl JsonTemplate {
    /// Makes templates of the texts in a value; keys stay as they are.
    ///
    /// # Errors
    ///
    /// Of the first text that is none.
    pub fn new(value: Value) -> Result<Self, TemplateFault> {
        Ok(match value {
            Value::String(text) => Self::Text(Template::parse(&text)?),
            Value::Array(items) => Self::List(items.into_iter().map(Self::new).collect::<Result<_, _>>()?),
            Value::Object(members) => {
                let member = |(key, value)| -> Result<_, TemplateFault> { Ok((key, Self::new(value)?)) };
                Self::Object(members.into_iter().map(member).collect::<Result<_, _>>()?)
            }
            plain => Self::Plain(plain),
        })
    }

    /// All templates in it.
    #[must_use]
    pub fn templates(&self) -> Vec<&Template> {
        match self {
            Self::Text(template) => vec![template],
            Self::Plain(_) => Vec::new(),
            Self::List(items) => items.iter().flat_map(Self::templates).collect(),
            Self::Object(members) => members.iter().flat_map(|(_, value)| value.templates()).collect(),
        }
    }

    /// The value for an event.
    ///
    /// # Errors
    ///
    /// [`NoValue`].
    pub fn value(&self, values: &dyn Values) -> Result<Value, NoValue> {
        Ok(match self {
            Self::Text(template) => template.value(values)?,
            Self::Plain(value) => value.clone(),
            Self::List(items) => Value::Array(items.iter().map(|item| item.value(values)).collect::<Result<_, _>>()?),
            Self::Object(members) => {
                let mut object = Map::new();
                for (key, member) in members {
                    object.insert(key.clone(), member.value(values)?);
                }
                Value::Object(object)
            }
        })
    }
}

/// The value at the rest of a path inside another one: members of objects, elements of lists by number.
#[must_use]
pub fn inside(value: &Value, path: &[String]) -> Option<Value> {
    let mut found = value;
    for name in path {
        found = match found {
            Value::Object(members) => members.get(name)?,
            Value::Array(items) => items.get(name.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(found.clone())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    struct Event(Value);

    impl Values for Event {
        fn value(&self, path: &[String]) -> Option<Value> {
            inside(&self.0, path)
        }
    }

    fn event() -> Event {
        Event(json!({"message": {"id": "m-1", "n": 3, "list": [1, {"a": true}], "none": null}}))
    }

    #[test]
    fn places_become_values() {
        let text = |template: &str| Template::parse(template).unwrap().text(&event());
        assert_eq!(text("plain").as_deref(), Ok("plain"));
        assert_eq!(text("a {{ message.id }}-{{message.n}}").as_deref(), Ok("a m-1-3"));
        assert_eq!(text("{{ message.list.1.a }}{{ message.none }}").as_deref(), Ok("true"));
        assert_eq!(text("{{ message.list }}").as_deref(), Ok(r#"[1,{"a":true}]"#));
        assert_eq!(text("{{ message.x }}"), Err(NoValue("message.x".to_owned())));
    }

    #[test]
    fn one_place_keeps_its_type() {
        let value = |template: &str| Template::parse(template).unwrap().value(&event()).unwrap();
        assert_eq!(value("{{ message.n }}"), json!(3));
        assert_eq!(value("{{ message.n }} "), json!("3 "));
        let all = json!({"id": "{{ message.id }}", "n": [1, "{{ message.n }}"], "fix": true});
        let template = JsonTemplate::new(all).unwrap();
        assert_eq!(template.templates().len(), 2);
        assert_eq!(
            template.value(&event()).unwrap(),
            json!({"id": "m-1", "n": [1, 3], "fix": true})
        );
    }

    #[test]
    fn what_is_no_template_is_refused_with_its_place() {
        for (text, at) in [
            ("a {{ b", 2..6),
            ("{{ a b }}", 0..9),
            ("x{{}}", 1..5),
            ("{{ a..b }}", 0..10),
        ] {
            assert_eq!(Template::parse(text).unwrap_err().at, at, "{text}");
        }
        assert!(Template::parse(&"x".repeat(MAX_TEMPLATE + 1)).is_err());
    }
}
