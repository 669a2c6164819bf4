//! Calls from the server to the application's backend, over HTTP/1.1, and fetches of documents of keys (JWKS).
//!
//! One thread of its own does them all, so that a slow backend never holds a shard. A shard submits a call to a
//! bounded queue ([`HooksHandle::submit`], which never blocks) and hears of its outcome through the [`Completion`]
//! the server was started with. Nothing in a shard waits meanwhile, except the session that asked.
//!
//! ```text
//!   shard --HookCall--> queue + bell --> Worker --> breaker --> Backend (pool) --> Connection --> backend
//!     ^                                     |
//!     +------- Completion (inbox) ----------+
//! ```
//!
//! What is decided is plain data without sockets, clocks or tasks: who gets which connection ([`Pool`]), whether a
//! backend is called at all ([`Breaker`]), when keys are fetched again ([`Refresh`]). Around it are one task per call
//! and one per connection, on a tokio runtime of this one thread. hyper speaks HTTP, rustls TLS.
//!
//! A call is made again once, and only if the connection had served before and was closed without a byte of an
//! answer: then the backend most likely closed it while it was idle. Both attempts carry the same `Idempotency-Key`,
//! for backends that must not do a thing twice.

mod backend;
mod bell;
mod breaker;
mod call;
mod clock;
mod connection;
mod keys;
mod metrics;
mod names;
mod pool;
mod refresh;
mod settings;
mod target;
mod tls;
mod url;
mod worker;

pub use breaker::{Breaker, BreakerLimits, BreakerState, Permit};
pub use call::{
    Busy, CallId, Completion, HookCall, HookOutcome, KeySource, Keys, Target, Unavailable,
};
pub use metrics::{BackendMetrics, HooksMetrics, KeysMetrics, TargetMetrics};
pub use pool::{DialFailed, Given, Pool, PoolLimits, Take, Waiter};
pub use refresh::{Asked, Refresh, RefreshTimes};
pub use settings::{
    HooksSettings, KeySourceSettings, MAX_ENDPOINTS, MAX_TIMEOUT_MS, TargetSettings,
};
pub use worker::{HooksHandle, start};
