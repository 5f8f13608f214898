//! Schemas: what is accepted, where a fault is said to be, and that no schema and no payload makes a check run on.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use runner_core::function::PayloadCheck as _;
use runner_core::schedule::Problem;
use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::text::yaml;

fn compiled(schema: &Json) -> CompiledSchema {
    compile(&schema.to_string())
        .unwrap_or_else(|fault| panic!("{fault:?}"))
        .0
}

fn fault_of(schema: Json) -> (String, String) {
    match compile(&schema.to_string()) {
        Ok(_) => panic!("{schema} was accepted"),
        Err(fault) => (fault.at, fault.why),
    }
}

fn said(schema: &Json, payload: &str) -> Option<String> {
    compiled(schema)
        .fault(payload.as_bytes())
        .map(|fault| fault.to_string())
}

/// Reads the text under `payload_schema`.
fn read(text: &str) -> (Option<PayloadSchema>, Vec<Problem>) {
    let text = format!("payload_schema: {text}\n");
    let documents = yaml::parse(&text).unwrap();
    let mut report = Report::of_file("a.yaml", &text);
    let fields = crate::text::Fields::read(&documents[0], "", &["payload_schema"], &mut report).unwrap();
    let field = fields.get("payload_schema", &mut report).unwrap();
    let schema = read_payload_schema(field, &mut report);
    (schema, report.finish())
}

#[test]
fn a_large_payload_is_checked_in_and_outside_of_any_runtime() {
    use tokio::runtime::Builder;
    let schema = json!({"properties": {"n": {"type": "integer"}}});
    let payload = format!(r#"{{"n":"x","more":"{}"}}"#, "x".repeat(200 * 1024));
    let look = async || said(&schema, &payload);
    let outside = said(&schema, &payload).unwrap();
    assert!(outside.contains("/n: "), "{outside}");
    for mut runtime in [Builder::new_current_thread(), Builder::new_multi_thread()] {
        let found = runtime.worker_threads(1).build().unwrap().block_on(look());
        assert_eq!(found.as_ref(), Some(&outside));
    }
}

#[test]
fn a_fault_has_a_path_and_no_value_of_the_payload() {
    let schema = json!({"type": "object", "required": ["id"], "properties": {
        "orders": {"type": "array", "items": {"type": "object", "properties": {"id": {"type": "integer"}}}},
        "mail": {"format": "email"},
        "code": {"pattern": "^[A-Z]{3}$"},
    }});
    assert_eq!(
        said(&schema, r#"{"id":1,"orders":[{"id":2}],"mail":"a@b.cd","code":"ABC"}"#),
        None
    );
    let secret = r#"{"id":1,"orders":[{"id":"hunter2"}],"mail":"hunter2","code":"hunter2"}"#;
    let text = said(&schema, secret).unwrap();
    assert!(!text.contains("hunter2"), "{text}");
    let one = said(&schema, r#"{"id":1,"orders":[{"id":"x"}]}"#).unwrap();
    let expected = "the payload does not fit payload_schema: /orders/0/id: this value is not of type \"integer\"";
    assert_eq!(one, expected);
    assert!(said(&schema, "{").unwrap().contains("it is not JSON: "));
    assert!(said(&schema, "{}").unwrap().contains("\"id\" is a required property"));
    assert!(
        said(&schema, "")
            .unwrap()
            .ends_with("there is none, which counts as null")
    );
    assert_eq!(said(&json!({"type": ["object", "null"]}), ""), None);
}

#[test]
fn what_a_schema_must_not_contain_is_refused_with_its_place() {
    let other = "only places in the same schema can be named; nothing is read from files or addresses";
    for (schema, at, why) in [
        (json!({"$ref": "http://example.com/a.json"}), "/$ref", other),
        (
            json!({"properties": {"a": {"$ref": "file:///etc/passwd"}}}),
            "/properties/a/$ref",
            other,
        ),
        (
            json!({"$ref": "#/$defs/none"}),
            "/$ref",
            "there is no schema at this place",
        ),
        (
            json!({"items": {"$id": "http://a/"}}),
            "/items/$id",
            "only the schema as a whole may have it",
        ),
        (
            json!({"$dynamicRef": "#x"}),
            "/$dynamicRef",
            "its target depends on what is checked, which is not supported",
        ),
        (
            json!({"items": {"format": "regex"}}),
            "/items/format",
            "compiling patterns of payloads is not supported",
        ),
    ] {
        assert_eq!(fault_of(schema), (at.to_owned(), why.to_owned()));
    }
    let (at, why) = fault_of(json!({"$schema": "http://json-schema.org/draft-04/schema#"}));
    assert!(at == "/$schema" && why.contains("draft-07"), "{why}");
    assert_eq!(
        fault_of(json!({"properties": {"a": {"type": "strin"}}})).0,
        "/properties/a/type"
    );
    for pattern in ["(a", "(?=a)b", "(a{1000}){1000}"] {
        fault_of(json!({"properties": {"a": {"pattern": pattern}}}));
    }
    fault_of(json!({"format": "no-such-format"}));
}

#[test]
fn names_of_keywords_are_no_keywords_where_they_name_members() {
    let schema = json!({
        "properties": {"$ref": {"type": "string"}, "$id": {}, "pattern": {"type": "integer"}},
        "enum": [{"$ref": "x"}, {"$ref": "http://example.com"}],
    });
    assert_eq!(said(&schema, r#"{"$ref":"x"}"#), None);
    assert!(said(&schema, r#"{"$ref":1}"#).is_some());
}

#[test]
fn a_schema_that_never_ends_is_refused() {
    for schema in [
        json!({"$ref": "#"}),
        json!({"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"anyOf": [{"$ref": "#"}]}}}),
        json!({"if": {"$ref": "#"}, "then": {}}),
    ] {
        let (_, why) = fault_of(schema);
        assert!(why.contains("a check would never end"), "{why}");
    }
    // Each definition has the next one twice: two to the power of 40.
    let mut definitions = serde_json::Map::new();
    for n in 0..40 {
        let next = json!({"$ref": format!("#/$defs/d{}", n + 1)});
        definitions.insert(format!("d{n}"), json!({"allOf": [next, next]}));
    }
    definitions.insert("d40".to_owned(), json!({}));
    let (_, why) = fault_of(json!({"$ref": "#/$defs/d0", "$defs": definitions}));
    assert!(why.contains("would take too long"), "{why}");
}

/// A payload of objects in objects.
fn nested(levels: usize) -> String {
    format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels))
}

#[test]
fn no_payload_makes_a_check_run_on() {
    // Every level doubles the work.
    let twice = json!({"anyOf": [
        {"properties": {"a": {"$ref": "#"}, "x": {"type": "integer"}}, "required": ["b"]},
        {"properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    ]});
    let began = Instant::now();
    assert!(said(&twice, &nested(100)).unwrap().contains("is nested deeper than"));
    assert_eq!(said(&twice, &nested(5)), None);
    // Once a level: as deep as JSON may be.
    let once = json!({"type": ["object", "integer"], "properties": {"a": {"$ref": "#"}}});
    assert_eq!(said(&once, &nested(120)), None);
    let patterns = json!({"pattern": "^(a+)+$"});
    assert!(said(&patterns, &format!("\"{}b\"", "a".repeat(100_000))).is_some());
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn the_highest_schema_fits_on_the_stack_of_a_thread() {
    // Three references in a row for each level, as deep as payloads may be.
    let schema = json!({"$ref": "#/$defs/a", "$defs": {
        "a": {"allOf": [{"$ref": "#/$defs/b"}]},
        "b": {"anyOf": [{"not": {"not": {"$ref": "#/$defs/c"}}}]},
        "c": {"properties": {"a": {"if": {}, "then": {"$ref": "#/$defs/a"}}}},
    }});
    let check = move || {
        let schema = compiled(&schema);
        (0..127).for_each(|levels| drop(schema.fault(nested(levels).as_bytes())));
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(check).unwrap();
    thread.join().unwrap();
}

#[test]
fn an_error_points_at_the_fault_in_the_file() {
    let (schema, problems) = read("{type: object, properties: {a: {type: strin}}}");
    assert!(schema.is_none());
    let problem = &problems[0];
    assert_eq!((problem.code.as_str(), problem.place.as_str()), ("E153", "a.yaml:1:49"));
    assert!(
        problem.message.starts_with("payload_schema.properties.a.type: "),
        "{}",
        problem.message
    );
    let (schema, _) = read("{type: object}");
    assert_eq!(schema.unwrap().text(), r#"{"type":"object"}"#);
    let hint = |text: &str| read(text).1[0].hint.clone().unwrap_or_default();
    for (word, meant) in [
        ("objekt", "object"),
        ("Integer", "integer"),
        ("float", "number"),
        ("[string, nul]", "null"),
    ] {
        assert_eq!(hint(&format!("{{type: {word}}}")), meant);
    }
    assert_eq!(hint("{type: thing}"), "");
    for text in ["[1]", "true", "text"] {
        assert_eq!(read(text).1[0].code, "E153", "{text}");
    }
    let long = format!("{{title: {}}}", "x".repeat(MAX_SCHEMA_BYTES));
    assert!(read(&long).1[0].message.contains("at most 65536"));
}

#[test]
fn unknown_keywords_are_warnings_at_their_place() {
    let said = |text: &str| {
        let (schema, problems) = read(text);
        assert!(schema.is_some(), "{problems:?}");
        let line = |p: Problem| format!("{} {} {} // {}", p.place, p.code, p.message, p.hint.unwrap_or_default());
        problems.into_iter().map(line).collect::<Vec<_>>()
    };
    assert_eq!(
        said("{type: object, requird: [id], properties: {a: {typ: string}}}"),
        [
            "a.yaml:1:32 W219 payload_schema.requird: JSON Schema has no such keyword, so nothing is checked by it // did you mean required?",
            "a.yaml:1:64 W219 payload_schema.properties.a.typ: JSON Schema has no such keyword, so nothing is checked by it // did you mean type?",
        ]
    );
    assert!(said("{nullable: true}")[0].ends_with("begin with \"x-\""));
    // Names of members, values, definitions and words of your own are no keywords.
    let fine = "{properties: {requird: {}}, $defs: {x: {}}, x-own: 1, enum: [{requird: 1}], const: {a: 1}, default: {b: 1}, examples: [{c: 1}], dependentRequired: {d: [e]}}";
    assert_eq!(said(fine), [""; 0]);
    let many: String = (0..50).map(|n| format!("k{n}: 1, ")).collect();
    assert_eq!(said(&format!("{{{many} type: object}}")).len(), 20);
}
