//! A node of the settings as a type of the program that embeds this one: serde, with places, references and strict keys.
//!
//! Values are never part of an error: a reference may have put a secret there.

use std::cell::RefCell;
use std::fmt;

use serde::de::value::{MapAccessDeserializer, StringDeserializer};
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use super::environment::{Environment, interpolate};
use crate::text::yaml::{Mark, Node, Value};
use crate::text::{nearest, one_of, quoted};

/// What is the same for all nodes of a section.
pub struct TypedSource<'a> {
    /// The text of the file.
    pub text: &'a str,
    /// What references refer to.
    pub environment: &'a Environment,
    /// Keys that the type does not have.
    pub unknown: RefCell<Vec<UnknownKey>>,
}

/// A key that the type does not have.
pub struct UnknownKey {
    /// In one sentence.
    pub message: String,
    /// What may have been meant.
    pub hint: Option<String>,
    /// The place of the key.
    pub at: Mark,
}

/// A node, and where it is.
#[derive(Clone)]
pub struct TypedNode<'a> {
    source: &'a TypedSource<'a>,
    node: &'a Node,
    path: String,
    /// The key that it is the value of, and the keys that its map may have.
    key: Option<(Mark, &'static [&'static str])>,
}

/// Why a node does not fit the type.
#[derive(Debug)]
pub struct TypedError {
    /// What is wrong, without the path.
    message: String,
    /// Which node, as soon as that is known.
    pub at: Option<(String, Mark)>,
    /// Whether a reference cannot be resolved.
    pub reference: bool,
}

impl<'a> TypedNode<'a> {
    /// The node at `path`.
    pub fn new(source: &'a TypedSource<'a>, path: &str, node: &'a Node) -> Self {
        Self {
            source,
            node,
            path: path.to_owned(),
            key: None,
        }
    }

    fn placed(&self, mut error: TypedError) -> TypedError {
        error.at.get_or_insert_with(|| (self.path.clone(), self.node.mark));
        error
    }

    /// Its characters with references resolved, and whether there were any; `None` if it is not a single value.
    fn scalar(&self) -> Result<Option<(String, bool)>, TypedError> {
        let Some(written) = self.node.written(self.source.text) else {
            return Ok(None);
        };
        if !written.contains("${") {
            return Ok(Some((written, false)));
        }
        let resolved = interpolate(&written, self.source.environment).map_err(|message| TypedError {
            message,
            at: Some((self.path.clone(), self.node.mark)),
            reference: true,
        })?;
        Ok(Some((resolved, true)))
    }

    /// A value that was read from a reference is whatever the type wants it to be.
    fn parsed<T: std::str::FromStr>(&self) -> Result<Option<T>, TypedError> {
        let resolved = self.scalar()?.filter(|(_, resolved)| *resolved);
        Ok(resolved.and_then(|(text, _)| text.trim().parse().ok()))
    }

    fn map<'de, V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, TypedError> {
        let Value::Map(entries) = &self.node.value else {
            return Err(self.placed(TypedError::of("must be a map".to_owned())));
        };
        for (index, (key, _)) in entries.iter().enumerate() {
            if entries[..index].iter().any(|(known, _)| known.value == key.value) {
                let name = key.written(self.source.text).unwrap_or_default();
                let error = de::Error::custom(format!("has the key {} twice", quoted(&name)));
                return Err(self.placed(error));
            }
        }
        let entries = TypedEntries {
            of: &self,
            rest: entries.iter(),
            value: None,
            fields,
        };
        visitor.visit_map(entries).map_err(|error| self.placed(error))
    }

    fn any<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypedError> {
        let read = match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(flag) => visitor.visit_bool(*flag),
            Value::Int(number) => match (u64::try_from(*number), i64::try_from(*number)) {
                (Ok(number), _) => visitor.visit_u64(number),
                (_, Ok(number)) => visitor.visit_i64(number),
                _ => visitor.visit_i128(*number),
            },
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Text(_) => match self.scalar()? {
                Some((text, _)) => visitor.visit_string(text),
                None => visitor.visit_unit(),
            },
            Value::List(nodes) => visitor.visit_seq(TypedItems {
                of: &self,
                rest: nodes.iter().enumerate(),
            }),
            Value::Map(_) => return self.map(&[], visitor),
        };
        read.map_err(|error| self.placed(error))
    }
}

macro_rules! from_references {
    ($($method:ident $visit:ident $type:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypedError> {
            match self.parsed::<$type>()? {
                Some(value) => visitor.$visit(value).map_err(|error| self.placed(error)),
                None => self.any(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for TypedNode<'_> {
    type Error = TypedError;

    from_references! {
        deserialize_bool visit_bool bool;
        deserialize_i8 visit_i8 i8;
        deserialize_i16 visit_i16 i16;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
        deserialize_f32 visit_f32 f32;
        deserialize_f64 visit_f64 f64;
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypedError> {
        self.any(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypedError> {
        self.deserialize_string(visitor)
    }

    /// As it is written: `0123` is a text with a zero.
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypedError> {
        match self.scalar()? {
            Some((text, _)) => visitor.visit_string(text).map_err(|error| self.placed(error)),
            None => self.any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypedError> {
        match self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, TypedError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypedError> {
        self.map(&[], visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypedError> {
        self.map(fields, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypedError> {
        if let Some((word, _)) = self.scalar()? {
            let word: StringDeserializer<TypedError> = word.into_deserializer();
            return visitor.visit_enum(word).map_err(|error| self.placed(error));
        }
        let Value::Map(entries) = &self.node.value else {
            return self.any(visitor);
        };
        let entries = TypedEntries {
            of: &self,
            rest: entries.iter(),
            value: None,
            fields: &[],
        };
        let variant = MapAccessDeserializer::new(entries);
        visitor.visit_enum(variant).map_err(|error| self.placed(error))
    }

    /// The value of a key that the type does not have.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypedError> {
        if let Some((at, fields)) = self.key {
            let (place, name) = self.path.rsplit_once('.').unwrap_or(("", &self.path));
            let likely = nearest(name, fields.iter().copied()).map(|meant| format!("did you mean {}?", quoted(meant)));
            let all = || (!fields.is_empty()).then(|| format!("known here: {}", fields.join(", ")));
            self.source.unknown.borrow_mut().push(UnknownKey {
                message: format!("unknown key {} in {place}", quoted(name)),
                hint: likely.or_else(all),
                at,
            });
        }
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct seq tuple tuple_struct identifier
    }
}

/// The entries of a map.
struct TypedEntries<'a, 'b> {
    of: &'b TypedNode<'a>,
    rest: std::slice::Iter<'a, (Node, Node)>,
    value: Option<TypedNode<'a>>,
    fields: &'static [&'static str],
}

impl<'de> MapAccess<'de> for TypedEntries<'_, '_> {
    type Error = TypedError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, TypedError> {
        let Some((key, node)) = self.rest.next() else {
            return Ok(None);
        };
        let of = self.of;
        let Some(name) = key.written(of.source.text) else {
            let error = de::Error::custom("has a key that is not a single value");
            return Err(of.placed(error));
        };
        let path = format!("{}.{name}", of.path);
        let at = (path.clone(), key.mark);
        self.value = Some(TypedNode {
            source: of.source,
            node,
            path,
            key: Some((key.mark, self.fields)),
        });
        let name: StringDeserializer<TypedError> = name.into_deserializer();
        seed.deserialize(name).map(Some).map_err(|mut error| {
            error.at.get_or_insert(at);
            error
        })
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, TypedError> {
        let Some(value) = self.value.take() else {
            return Err(de::Error::custom("is read without its key"));
        };
        let here = value.clone();
        seed.deserialize(value).map_err(|error| here.placed(error))
    }
}

/// The elements of a list.
struct TypedItems<'a, 'b> {
    of: &'b TypedNode<'a>,
    rest: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
}

impl<'de> SeqAccess<'de> for TypedItems<'_, '_> {
    type Error = TypedError;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, TypedError> {
        let Some((index, node)) = self.rest.next() else {
            return Ok(None);
        };
        let item = TypedNode {
            source: self.of.source,
            node,
            path: format!("{}[{index}]", self.of.path),
            key: None,
        };
        let here = item.clone();
        seed.deserialize(item).map(Some).map_err(|error| here.placed(error))
    }
}

impl TypedError {
    fn of(message: String) -> Self {
        Self {
            message,
            at: None,
            reference: false,
        }
    }
}

impl fmt::Display for TypedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            Some((path, _)) if !self.reference => write!(f, "{path} {}", self.message),
            _ => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for TypedError {}

impl de::Error for TypedError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::of(format!("is refused: {message}"))
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::of(format!("must be {expected}"))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::of(format!("must be {expected}"))
    }

    fn invalid_length(length: usize, expected: &dyn de::Expected) -> Self {
        Self::of(format!("has {length} elements and must be {expected}"))
    }

    fn unknown_variant(_: &str, known: &'static [&'static str]) -> Self {
        Self::of(format!("must be {}", one_of(known)))
    }

    fn unknown_field(_: &str, known: &'static [&'static str]) -> Self {
        Self::of(format!("is not known; known here: {}", known.join(", ")))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::of(format!("lacks the key {}", quoted(field)))
    }
}
