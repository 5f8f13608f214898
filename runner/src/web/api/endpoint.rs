//! One call of the API: its address, the right that it needs, its types, and the function that answers it.
//!
//! Routes and document are made from the same list of these, so that neither has a call that the other lacks. Not here: what
//! calls do.

use std::collections::HashMap;
use std::future::Future;

use axum::Json;
use axum::body::to_bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts as _, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, get, on};
use bytes::Bytes;
use runner_core::task::{QueueName, TaskId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, ToSchema};

use super::caller::{ApiCaller, is_json};
use super::problem::ApiProblem;
use crate::access::TokenRight;
use crate::web::app_state::AppState;
use crate::web::guard::admit::ROW_LIMIT;
use crate::web::request_context::RequestContext;
use crate::web::{reached_by, urls};

/// The root of this version of the API. Below `/queue`, as proxies of the dashboard pass that on.
pub const ROOT: &str = "/queue/api/v1";

/// Names in paths that hold a name of the user.
const LONGEST_NAME: usize = 20_000;

/// A type of the document, and those that it refers to.
pub struct NamedSchema {
    /// Its name.
    pub name: String,
    /// All of them by name.
    pub all: Vec<(String, RefOr<Schema>)>,
}

impl NamedSchema {
    fn of<T: ToSchema>() -> Self {
        let (name, mut all) = (T::name().into_owned(), Vec::new());
        T::schemas(&mut all);
        all.push((name.clone(), T::schema()));
        Self { name, all }
    }
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerForm {
    /// One object.
    One,
    /// A part of a list, and where the next part begins.
    List,
    /// One object, new (201) or known before (200).
    Created,
}

/// A call.
pub struct Endpoint {
    /// GET, POST, PATCH or DELETE.
    pub method: Method,
    /// Below [`ROOT`], with names in braces.
    pub path: &'static str,
    /// What it does, in one sentence.
    pub summary: &'static str,
    /// What a caller must be allowed.
    pub right: TokenRight,
    /// Parameters of the query.
    pub query: Vec<Parameter>,
    /// The type of the body.
    pub body: Option<NamedSchema>,
    /// The type of the answer, or of the items of its list.
    pub answer: NamedSchema,
    /// Its form.
    pub form: AnswerForm,
    /// What an `Idempotency-Key` does; `None`: the call takes none.
    pub key: Option<&'static str>,
    /// What answers it.
    pub route: MethodRouter<AppState>,
}

/// A call that was admitted.
pub struct ApiCall {
    /// The state of the dashboard.
    pub app: AppState,
    /// The context of actions.
    pub cx: RequestContext,
    /// The headers.
    pub headers: HeaderMap,
    names: HashMap<String, String>,
}

impl ApiCall {
    /// A name of the path, decoded.
    pub fn name(&self, key: &str) -> String {
        let written = self.names.get(key).cloned().unwrap_or_default();
        urls::text_in(&written).unwrap_or(written)
    }

    /// The queue of the path.
    pub fn queue(&self) -> Result<QueueName, ApiProblem> {
        let name = self.name("queue");
        QueueName::new(name.clone())
            .ok()
            .filter(|_| name.len() <= LONGEST_NAME)
            .ok_or_else(|| ApiProblem::gone("queue", &name))
    }

    /// The task of the path.
    pub fn task(&self) -> Result<TaskId, ApiProblem> {
        let name = self.name("id");
        TaskId::new(name.clone())
            .ok()
            .filter(|_| name.len() <= LONGEST_NAME)
            .ok_or_else(|| ApiProblem::gone("task", &name))
    }
}

/// A part of a list.
#[derive(Debug, Serialize)]
pub struct ListPart<T> {
    /// In the order of the list.
    pub items: Vec<T>,
    /// Where the next part begins; none: this is the end.
    pub next: Option<String>,
}

/// Something that a call has made, or had made before.
pub struct Created<T> {
    /// What.
    pub body: T,
    /// Whether it is new.
    pub new: bool,
    /// Its address below [`ROOT`].
    pub at: String,
}

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        let status = if self.new { StatusCode::CREATED } else { StatusCode::OK };
        let mut response = (status, Json(self.body)).into_response();
        let location = format!("{}{ROOT}{}", reached_by::current().base, self.at);
        if let Ok(location) = HeaderValue::from_str(&location) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }
}

/// A call without parameters, or without a body.
#[derive(Debug, serde::Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

impl Endpoint {
    /// A call that reads one object.
    pub fn get<Q, T, F, H>(path: &'static str, summary: &'static str, handler: H) -> Self
    where
        Q: DeserializeOwned + IntoParams + Send + 'static,
        T: Serialize + ToSchema,
        F: Future<Output = Result<T, ApiProblem>> + Send + 'static,
        H: Fn(ApiCall, Q) -> F + Clone + Send + Sync + 'static,
    {
        let answered = move |call: ApiCall, query: Q| {
            let answer = handler(call, query);
            async { Ok(Json(answer.await?)) }
        };
        let answer = (NamedSchema::of::<T>(), AnswerForm::One);
        Self::reading(TokenRight::Read, (path, summary), answer, answered)
    }

    /// A call that reads one object, whose version is its ETag.
    pub fn versioned<Q, T, F, H>(path: &'static str, summary: &'static str, version: fn(&T) -> &str, handler: H) -> Self
    where
        Q: DeserializeOwned + IntoParams + Send + 'static,
        T: Serialize + ToSchema + 'static,
        F: Future<Output = Result<T, ApiProblem>> + Send + 'static,
        H: Fn(ApiCall, Q) -> F + Clone + Send + Sync + 'static,
    {
        let answered = move |call: ApiCall, query: Q| {
            let answer = handler(call, query);
            async move {
                let body = answer.await?;
                let tag = format!("\"{}\"", version(&body));
                Ok(([(header::ETAG, tag)], Json(body)))
            }
        };
        let answer = (NamedSchema::of::<T>(), AnswerForm::One);
        Self::reading(TokenRight::Read, (path, summary), answer, answered)
    }

    /// A call that reads a part of a list.
    pub fn list<Q, T, F, H>(path: &'static str, summary: &'static str, handler: H) -> Self
    where
        Q: DeserializeOwned + IntoParams + Send + 'static,
        T: Serialize + ToSchema,
        F: Future<Output = Result<ListPart<T>, ApiProblem>> + Send + 'static,
        H: Fn(ApiCall, Q) -> F + Clone + Send + Sync + 'static,
    {
        Self::list_for(TokenRight::Read, path, summary, handler)
    }

    /// The same for callers with this right.
    pub fn list_for<Q, T, F, H>(right: TokenRight, path: &'static str, summary: &'static str, handler: H) -> Self
    where
        Q: DeserializeOwned + IntoParams + Send + 'static,
        T: Serialize + ToSchema,
        F: Future<Output = Result<ListPart<T>, ApiProblem>> + Send + 'static,
        H: Fn(ApiCall, Q) -> F + Clone + Send + Sync + 'static,
    {
        let answered = move |call: ApiCall, query: Q| {
            let answer = handler(call, query);
            async { Ok(Json(answer.await?)) }
        };
        let answer = (NamedSchema::of::<T>(), AnswerForm::List);
        Self::reading(right, (path, summary), answer, answered)
    }

    fn reading<Q, A, F, H>(
        right: TokenRight,
        (path, summary): (&'static str, &'static str),
        (answer, form): (NamedSchema, AnswerForm),
        handler: H,
    ) -> Self
    where
        Q: DeserializeOwned + IntoParams + Send + 'static,
        A: IntoResponse,
        F: Future<Output = Result<A, ApiProblem>> + Send + 'static,
        H: Fn(ApiCall, Q) -> F + Clone + Send + Sync + 'static,
    {
        let serve = move |State(app): State<AppState>, request: Request| {
            let handler = handler.clone();
            async move {
                let (call, request) = admitted(app, request, right, path).await?;
                let query = Query::<Q>::try_from_uri(request.uri()).map_err(|error| bad_query(&error))?;
                handler(call, query.0).await
            }
        };
        Self {
            method: Method::GET,
            path,
            summary,
            right,
            query: Q::into_params(|| Some(ParameterIn::Query)),
            body: None,
            answer,
            form,
            key: None,
            route: get(serve),
        }
    }

    /// A call that acts, once or many times with the same effect.
    pub fn act<B, T, F, H>(path: &'static str, summary: &'static str, handler: H) -> Self
    where
        B: DeserializeOwned + ToSchema + Send + 'static,
        T: Serialize + ToSchema,
        F: Future<Output = Result<T, ApiProblem>> + Send + 'static,
        H: Fn(ApiCall, B) -> F + Clone + Send + Sync + 'static,
    {
        let answered = move |call: ApiCall, body: B| {
            let answer = handler(call, body);
            async { Ok(Json(answer.await?)) }
        };
        let answer = (NamedSchema::of::<T>(), AnswerForm::One);
        Self::acting((path, summary), answer, None, answered)
    }

    /// A call that changes a part of something.
    pub fn change<B, T, F, H>(path: &'static str, summary: &'static str, handler: H) -> Self
    where
        B: DeserializeOwned + ToSchema + Send + 'static,
        T: Serialize + ToSchema,
        F: Future<Output = Result<T, ApiProblem>> + Send + 'static,
        H: Fn(ApiCall, B) -> F + Clone + Send + Sync + 'static,
    {
        let answered = move |call: ApiCall, body: B| {
            let answer = handler(call, body);
            async { Ok(Json(answer.await?)) }
        };
        let answer = (NamedSchema::of::<T>(), AnswerForm::One);
        Self::acting_by(Method::PATCH, (path, summary), answer, None, answered)
    }

    /// A call that deletes something.
    pub fn remove<B, T, F, H>(path: &'static str, summary: &'static str, handler: H) -> Self
    where
        B: DeserializeOwned + ToSchema + Send + 'static,
        T: Serialize + ToSchema,
        F: Future<Output = Result<T, ApiProblem>> + Send + 'static,
        H: Fn(ApiCall, B) -> F + Clone + Send + Sync + 'static,
    {
        let answered = move |call: ApiCall, body: B| {
            let answer = handler(call, body);
            async { Ok(Json(answer.await?)) }
        };
        let answer = (NamedSchema::of::<T>(), AnswerForm::One);
        Self::acting_by(Method::DELETE, (path, summary), answer, None, answered)
    }

    /// A call that makes something, and takes no key.
    pub fn create<B, T, F, H>(path: &'static str, summary: &'static str, handler: H) -> Self
    where
        B: DeserializeOwned + ToSchema + Send + 'static,
        T: Serialize + ToSchema,
        F: Future<Output = Result<Created<T>, ApiProblem>> + Send + 'static,
        H: Fn(ApiCall, B) -> F + Clone + Send + Sync + 'static,
    {
        let answer = (NamedSchema::of::<T>(), AnswerForm::Created);
        Self::acting((path, summary), answer, None, handler)
    }

    /// A call that makes something; `key` says what an `Idempotency-Key` does.
    pub fn create_once<B, T, F, H>(path: &'static str, summary: &'static str, key: &'static str, handler: H) -> Self
    where
        B: DeserializeOwned + ToSchema + Send + 'static,
        T: Serialize + ToSchema,
        F: Future<Output = Result<Created<T>, ApiProblem>> + Send + 'static,
        H: Fn(ApiCall, B) -> F + Clone + Send + Sync + 'static,
    {
        let answer = (NamedSchema::of::<T>(), AnswerForm::Created);
        Self::acting((path, summary), answer, Some(key), handler)
    }

    fn acting<B, A, F, H>(
        names: (&'static str, &'static str),
        answer: (NamedSchema, AnswerForm),
        key: Option<&'static str>,
        handler: H,
    ) -> Self
    where
        B: DeserializeOwned + ToSchema + Send + 'static,
        A: IntoResponse,
        F: Future<Output = Result<A, ApiProblem>> + Send + 'static,
        H: Fn(ApiCall, B) -> F + Clone + Send + Sync + 'static,
    {
        Self::acting_by(Method::POST, names, answer, key, handler)
    }

    fn acting_by<B, A, F, H>(
        method: Method,
        (path, summary): (&'static str, &'static str),
        (answer, form): (NamedSchema, AnswerForm),
        key: Option<&'static str>,
        handler: H,
    ) -> Self
    where
        B: DeserializeOwned + ToSchema + Send + 'static,
        A: IntoResponse,
        F: Future<Output = Result<A, ApiProblem>> + Send + 'static,
        H: Fn(ApiCall, B) -> F + Clone + Send + Sync + 'static,
    {
        // Calls from before there were other methods end so.
        let right = match method == Method::DELETE || path.ends_with("/delete") {
            true => TokenRight::Delete,
            false => TokenRight::Act,
        };
        let serve = move |State(app): State<AppState>, request: Request| {
            let handler = handler.clone();
            async move {
                let (call, request) = admitted(app, request, right, path).await?;
                Query::<Nothing>::try_from_uri(request.uri()).map_err(|error| bad_query(&error))?;
                if key.is_none() && call.headers.contains_key(IDEMPOTENCY_KEY) {
                    let detail = "this call takes no Idempotency-Key";
                    return Err(ApiProblem::new(StatusCode::BAD_REQUEST, "api_bad_key", detail)
                        .hint("openapi.json says which calls take one"));
                }
                let bytes = to_bytes(request.into_body(), ROW_LIMIT)
                    .await
                    .map_err(|_| ApiProblem::of_page(&crate::web::page_error::PageError::TooLarge))?;
                let body = body_of(&call.headers, &bytes)?;
                handler(call, body).await
            }
        };
        Self {
            route: on(filter_of(&method), serve),
            method,
            path,
            summary,
            right,
            query: Vec::new(),
            body: Some(NamedSchema::of::<B>()),
            answer,
            form,
            key,
        }
    }
}

fn filter_of(method: &Method) -> MethodFilter {
    match *method {
        Method::PATCH => MethodFilter::PATCH,
        Method::DELETE => MethodFilter::DELETE,
        _ => MethodFilter::POST,
    }
}

/// The first segment of a path: what scopes of tokens name.
pub fn resource(path: &str) -> &str {
    path.split('/').nth(1).unwrap_or_default()
}

fn bad_query(error: &QueryRejection) -> ApiProblem {
    ApiProblem::new(StatusCode::BAD_REQUEST, "api_bad_query", error.body_text())
}

/// Judges who calls, and reads the names of the path.
async fn admitted(
    app: AppState,
    request: Request,
    right: TokenRight,
    path: &'static str,
) -> Result<(ApiCall, Request), ApiProblem> {
    let (mut parts, body) = request.into_parts();
    let caller = ApiCaller::of(&app, &parts.method, &parts.uri, &parts.headers)?;
    caller.may(right, resource(path))?;
    let names = Path::<HashMap<String, String>>::from_request_parts(&mut parts, &app)
        .await
        .map_err(|error| ApiProblem::new(StatusCode::BAD_REQUEST, "api_bad_path", error.body_text()))?;
    let call = ApiCall {
        app,
        cx: caller.cx,
        headers: parts.headers.clone(),
        names: names.0,
    };
    Ok((call, Request::from_parts(parts, body)))
}

/// A body of JSON. An empty one stands for an empty object.
fn body_of<B: DeserializeOwned>(headers: &HeaderMap, bytes: &Bytes) -> Result<B, ApiProblem> {
    let bytes: &[u8] = match bytes.is_empty() {
        true => b"{}",
        false if is_json(headers) => bytes,
        false => {
            let detail = "the body is not said to be JSON";
            return Err(ApiProblem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "api_media", detail)
                .hint("content-type: application/json"));
        }
    };
    serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => ApiProblem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "api_bad_body",
            format!("the body does not fit: {error}"),
        ),
        _ => ApiProblem::new(
            StatusCode::BAD_REQUEST,
            "api_bad_json",
            format!("the body is not JSON: {error}"),
        ),
    })
}

/// The key under which a call may be repeated.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The longest such key, in characters.
pub const LONGEST_KEY: usize = 200;

impl ApiCall {
    /// The key under which this call may be repeated.
    ///
    /// # Errors
    ///
    /// It is empty, too long, or has other characters than printable ASCII.
    pub fn idempotency_key(&self) -> Result<Option<&str>, ApiProblem> {
        let Some(value) = self.headers.get(IDEMPOTENCY_KEY) else {
            return Ok(None);
        };
        let key = value.to_str().unwrap_or_default().trim();
        if key.is_empty() || key.len() > LONGEST_KEY {
            let detail = format!("Idempotency-Key must have 1 to {LONGEST_KEY} printable ASCII characters");
            return Err(ApiProblem::new(StatusCode::BAD_REQUEST, "api_bad_key", detail));
        }
        Ok(Some(key))
    }
}
