//! Values of objects: instants with the offset of a zone, and JSON from elsewhere that stays as it was written.

use bytes::Bytes;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// A value that may be JSON from elsewhere.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum JsonField {
    /// A value of this program.
    Value(Value),
    /// From elsewhere: numbers keep their digits and keys their order.
    Raw(Box<RawValue>),
}

/// A payload or result as JSON if it is JSON, else as text, else as base64 in an object; `null` if there is none.
#[must_use]
pub fn payload(bytes: &Bytes) -> JsonField {
    use base64::Engine;
    if bytes.is_empty() {
        return JsonField::Value(Value::Null);
    }
    if let Ok(raw) = serde_json::from_slice::<Box<RawValue>>(bytes) {
        return JsonField::Raw(raw);
    }
    JsonField::Value(match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({"base64": base64::engine::general_purpose::STANDARD.encode(bytes)}),
    })
}

/// An instant as RFC 3339 with the offset of the zone; milliseconds only if there are any.
#[must_use]
pub fn instant(at: Timestamp, zone: &TimeZone) -> String {
    let zoned = at.to_zoned(zone.clone());
    if zoned.subsec_nanosecond() == 0 {
        zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    } else {
        zoned.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
    }
}

/// An instant in an object, written by [`instant`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WrittenInstant(String);

impl WrittenInstant {
    /// With the offset of this zone.
    #[must_use]
    pub fn of(at: Timestamp, zone: &TimeZone) -> Self {
        Self(instant(at, zone))
    }

    /// The same, or none.
    #[must_use]
    pub fn maybe(at: Option<Timestamp>, zone: &TimeZone) -> Option<Self> {
        at.map(|at| Self::of(at, zone))
    }
}

/// What the document of the API says of these values.
#[cfg(feature = "web")]
mod schemas {
    use std::borrow::Cow;

    use utoipa::openapi::schema::SchemaType;
    use utoipa::openapi::{KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat, Type};
    use utoipa::{PartialSchema, ToSchema};

    use super::{JsonField, WrittenInstant};

    impl PartialSchema for JsonField {
        fn schema() -> RefOr<Schema> {
            ObjectBuilder::new()
                .schema_type(SchemaType::AnyValue)
                .description(Some(
                    "JSON as it was written; text or `{\"base64\": …}` where it is not JSON",
                ))
                .into()
        }
    }

    impl ToSchema for JsonField {
        fn name() -> Cow<'static, str> {
            Cow::Borrowed("AnyJson")
        }
    }

    impl PartialSchema for WrittenInstant {
        fn schema() -> RefOr<Schema> {
            ObjectBuilder::new()
                .schema_type(Type::String)
                .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
                .description(Some("RFC 3339 with the offset of `server.timezone`"))
                .into()
        }
    }

    impl ToSchema for WrittenInstant {
        fn name() -> Cow<'static, str> {
            Cow::Borrowed("Instant")
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn payloads_of_any_kind_are_shown() {
        let shown = |bytes: &'static [u8]| serde_json::to_string(&payload(&Bytes::from_static(bytes))).unwrap();
        assert_eq!(
            shown(br#"{"b":12345678901234567890123, "a":1.0}"#),
            r#"{"b":12345678901234567890123, "a":1.0}"#
        );
        assert_eq!(shown(b"plain"), r#""plain""#);
        assert_eq!(shown(b"\xff"), r#"{"base64":"/w=="}"#);
        assert_eq!(shown(b""), "null");
    }

    #[test]
    fn an_instant_has_the_offset_of_its_zone() {
        let zone = TimeZone::fixed(jiff::tz::offset(8));
        let at = |text: &str| instant(text.parse().unwrap(), &zone);
        assert_eq!(at("2026-01-01T00:00:00Z"), "2026-01-01T08:00:00+08:00");
        assert_eq!(at("2026-01-01T00:00:00.123456789Z"), "2026-01-01T08:00:00.123+08:00");
    }
}
