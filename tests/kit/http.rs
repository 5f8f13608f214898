//! A client for the program's pages and its API.

use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::Value;

/// A simple browser: stores cookies, does not follow redirects.
#[derive(Debug, Clone)]
pub struct Http {
    client: reqwest::Client,
    base: String,
}

/// What the program answered.
#[derive(Debug)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Its head.
    pub headers: HeaderMap,
    /// Its body, as text.
    pub body: String,
}

impl Reply {
    /// The body as JSON.
    ///
    /// # Panics
    ///
    /// With the body, if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.body))
    }

    /// One field of the head, or the empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

impl Http {
    /// A client whose paths are below `base`, such as `http://127.0.0.1:8080`.
    pub fn new(base: impl Into<String>) -> Self {
        // Another test may have been first, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .cookie_store(true)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(10))
            .build()
            .expect("an HTTP client");
        Self {
            client,
            base: base.into(),
        }
    }

    /// `GET`; an error without an answer.
    pub async fn try_get(&self, path: &str) -> Result<Reply, String> {
        self.send(self.request(reqwest::Method::GET, path)).await
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> Reply {
        self.try_get(path)
            .await
            .unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// `POST` of a form.
    pub async fn post_form(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let request = self.request(reqwest::Method::POST, path).form(fields);
        self.send(request)
            .await
            .unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    /// `POST` of JSON.
    pub async fn post_json(&self, path: &str, body: &Value) -> Reply {
        let request = self
            .request(reqwest::Method::POST, path)
            .header("content-type", "application/json")
            .body(body.to_string());
        self.send(request)
            .await
            .unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    /// A request for the caller to complete and pass to [`Self::send`].
    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    /// Sends it; an error without an answer.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Result<Reply, String> {
        let response = request.send().await.map_err(|error| format!("{error:?}"))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.text().await.map_err(|error| format!("{error:?}"))?;
        Ok(Reply { status, headers, body })
    }
}
