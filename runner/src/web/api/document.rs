//! `openapi.json`: made from the calls and their types, and from nothing else.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use utoipa::{PartialSchema as _, ToSchema as _};

use super::endpoint::{AnswerForm, Endpoint, LONGEST_KEY, resource};
use super::problem::{ApiProblem, PROBLEM_JSON};

/// The document of these calls, without the address of the server.
pub fn of(endpoints: &[Endpoint]) -> Value {
    let mut schemas = BTreeMap::from([(ApiProblem::name().into_owned(), json(&ApiProblem::schema()))]);
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for endpoint in endpoints {
        for named in std::iter::once(&endpoint.answer).chain(&endpoint.body) {
            schemas.extend(named.all.iter().map(|(name, schema)| (name.clone(), json(schema))));
        }
        let method = endpoint.method.as_str().to_lowercase();
        paths
            .entry(endpoint.path)
            .or_default()
            .insert(method, operation(endpoint));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "runner",
            "version": "1",
            "description": "Tasks, queues and schedules for programs. Refusals are problem+json with a stable `code`. docs/api.md has more.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {"Refused": {
                "description": "The call was refused.",
                "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            }},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "A token of `auth.tokens`."}},
        },
    })
}

fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn operation(endpoint: &Endpoint) -> Value {
    let right = endpoint.right.as_str();
    let resource = resource(endpoint.path);
    let mut parameters: Vec<Value> = names(endpoint.path)
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect();
    parameters.extend(endpoint.query.iter().map(json));
    if let Some(key) = endpoint.key {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header",
            "description": key,
            "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY},
        }));
    }
    let mut operation = json!({
        "operationId": id(endpoint),
        "tags": [resource],
        "summary": endpoint.summary,
        "description": format!("Scope `{right}` or `{right}:{resource}`."),
        "parameters": parameters,
        "responses": responses(endpoint),
    });
    if let Some(body) = &endpoint.body {
        let schema = reference(&body.name);
        operation["requestBody"] = json!({"content": {"application/json": {"schema": schema}}});
    }
    operation
}

/// `get_queues_queue`: unique, as method and path are.
fn id(endpoint: &Endpoint) -> String {
    let path = endpoint.path.replace(['{', '}'], "").replace(['/', '-'], "_");
    format!("{}{path}", endpoint.method.as_str().to_lowercase())
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn responses(endpoint: &Endpoint) -> Value {
    let item = reference(&endpoint.answer.name);
    let schema = match endpoint.form {
        AnswerForm::One | AnswerForm::Created => item,
        AnswerForm::List => json!({
            "type": "object",
            "required": ["items", "next"],
            "properties": {
                "items": {"type": "array", "items": item},
                "next": {"type": ["string", "null"], "description": "The cursor of the next part; null at the end."},
            },
        }),
    };
    let content = json!({"application/json": {"schema": schema}});
    let mut responses = json!({
        "200": {"description": "Done.", "content": content},
        "default": {"$ref": "#/components/responses/Refused"},
    });
    if endpoint.form == AnswerForm::Created {
        responses["200"]["description"] = json!("An earlier call has done it.");
        responses["201"] = json!({"description": "Done.", "content": content});
    }
    responses
}

/// The names in braces.
fn names(path: &str) -> impl Iterator<Item = &str> {
    let names = path.split('/').filter_map(|segment| segment.strip_prefix('{'));
    names.filter_map(|name| name.strip_suffix('}'))
}
