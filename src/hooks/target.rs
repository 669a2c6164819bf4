//! One endpoint, ready to be called.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};

use super::backend::Backend;
use super::breaker::Breaker;
use super::metrics::TargetMetrics;
use super::settings::TargetSettings;
use super::url::Url;

const PRODUCT: &str = concat!("longwire/", env!("CARGO_PKG_VERSION"));
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The longest value of a client's header that is forwarded, in bytes.
const MAX_FORWARDED_BYTES: usize = 8 * 1024;

/// One endpoint.
pub struct Endpoint {
    path: String,
    pub timeout_ms: u32,
    /// Sent with every call.
    headers: HeaderMap,
    forwarded: Vec<HeaderName>,
    pub breaker: RefCell<Breaker>,
    pub backend: Rc<Backend>,
    pub metrics: Arc<TargetMetrics>,
}

impl Endpoint {
    /// An endpoint from settings that were checked.
    pub fn new(
        settings: &TargetSettings,
        url: &Url,
        breaker: Breaker,
        backend: Rc<Backend>,
        metrics: Arc<TargetMetrics>,
    ) -> Self {
        let mut headers = common_headers(url);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in &settings.static_headers {
            append(&mut headers, name, value);
        }
        let forwarded = settings.http_headers.iter();
        Self {
            path: url.path.clone(),
            timeout_ms: settings.timeout_ms,
            headers,
            forwarded: forwarded.filter_map(|name| name.parse().ok()).collect(),
            breaker: RefCell::new(breaker),
            backend,
            metrics,
        }
    }

    /// The request of a call. Of the client's headers those go with it that are configured, unless the endpoint sets
    /// one of that name itself.
    pub fn request(
        &self,
        client_headers: &[(String, String)],
        idempotency_key: &str,
        body: Bytes,
    ) -> Request<Full<Bytes>> {
        let mut headers = self.headers.clone();
        for (name, value) in client_headers {
            let is_forwarded = |known: &&HeaderName| known.as_str().eq_ignore_ascii_case(name);
            let Some(known) = self.forwarded.iter().find(is_forwarded) else {
                continue;
            };
            if !self.headers.contains_key(known) && value.len() <= MAX_FORWARDED_BYTES {
                append(&mut headers, known.as_str(), value);
            }
        }
        append(&mut headers, IDEMPOTENCY_KEY.as_str(), idempotency_key);
        request("POST", &self.path, headers, body)
    }
}

/// The request for a document.
pub fn get_request(url: &Url) -> Request<Full<Bytes>> {
    request("GET", &url.path, common_headers(url), Bytes::new())
}

fn common_headers(url: &Url) -> HeaderMap {
    let mut headers = HeaderMap::new();
    append(&mut headers, HOST.as_str(), &url.authority);
    headers.insert(USER_AGENT, HeaderValue::from_static(PRODUCT));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers
}

/// A malformed header is left out: nothing in it can end the line.
fn append(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
        headers.append(name, value);
    }
}

fn request(method: &str, path: &str, headers: HeaderMap, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    // Both were parsed before.
    *request.method_mut() = method.parse().unwrap_or_default();
    *request.uri_mut() = path.parse().unwrap_or_default();
    *request.headers_mut() = headers;
    request
}
