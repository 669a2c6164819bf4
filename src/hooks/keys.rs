//! Fetching documents of keys.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::call::Keys;
use super::connection::Dialer;
use super::metrics::KeysMetrics;
use super::refresh::Refresh;
use super::target::get_request;
use super::url::Url;

/// Time for a whole fetch.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// From one fetch to the next at least, whoever asks: tokens that name unknown keys cost an attacker nothing.
pub const MIN_FETCH_INTERVAL_MS: u64 = 10_000;
/// The longest document, in bytes.
const MAX_DOCUMENT_BYTES: usize = 64 * 1024;

/// One document.
pub struct Source {
    pub url: Url,
    pub dialer: Dialer,
    pub refresh: RefCell<Refresh>,
    pub metrics: Arc<KeysMetrics>,
    /// Shards that asked and were not answered yet.
    pub asking: RefCell<BTreeSet<u16>>,
    /// What was fetched last.
    pub document: RefCell<Option<Bytes>>,
    /// The last fetch failed, and that was logged.
    pub is_failing: Cell<bool>,
}

impl Source {
    /// Fetches the document. The error is for the log.
    pub async fn fetch(&self) -> Result<Bytes, String> {
        match timeout(FETCH_TIMEOUT, self.get()).await {
            Ok(outcome) => outcome,
            Err(_) => Err("no whole answer in time".to_owned()),
        }
    }

    /// Redirects are not followed: they lead where the configuration does not say.
    async fn get(&self) -> Result<Bytes, String> {
        let connection = self.dialer.dial(()).await;
        let mut connection = connection.map_err(|reason| format!("no connection: {reason:?}"))?;
        let request = get_request(&self.url);
        let reply = connection.exchange(request, MAX_DOCUMENT_BYTES).await;
        let reply = reply.map_err(|fault| format!("no answer: {:?}", fault.reason))?;
        match reply.status {
            200 => Ok(reply.body),
            status => Err(format!("status {status}")),
        }
    }

    /// Keeps what was fetched. What the shards are to hear, and whether all are.
    pub fn keep(&self, fetched: Result<Bytes, String>) -> (Keys, bool) {
        let Ok(document) = fetched else {
            return (Keys::Failed, false);
        };
        let before = self.document.replace(Some(document.clone()));
        match before.as_ref() == Some(&document) {
            true => (Keys::Unchanged, false),
            false => (Keys::Document(document), true),
        }
    }
}
