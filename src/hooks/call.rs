//! What is asked of the hooks' thread, and what it answers.

use bytes::Bytes;

/// An endpoint: its index in [`super::HooksSettings::targets`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target(pub u16);

/// A document of keys: its index in [`super::HooksSettings::key_sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeySource(pub u16);

/// Who waits for the answer. The hooks' thread only carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallId {
    /// The shard.
    pub shard: u16,
    /// The session in the shard's table, slot and generation.
    pub session: u64,
    /// What the session makes of the answer.
    pub tag: u32,
}

/// A call to the backend.
#[derive(Clone, Debug)]
pub struct HookCall {
    /// Who waits.
    pub id: CallId,
    /// What is called.
    pub target: Target,
    /// The request's body, JSON.
    pub body: Vec<u8>,
    /// The client's headers. Those the target does not forward, and malformed ones, are left out.
    pub headers: Vec<(String, String)>,
    /// Milliseconds from the submission until the answer is of no use; the target's own time-out holds where it is
    /// shorter.
    pub deadline_ms: u32,
}

/// What became of a call. Every call that was accepted gets exactly one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookOutcome {
    /// The backend answered, well or not.
    Response {
        /// The HTTP status.
        status: u16,
        /// The whole body.
        body: Bytes,
    },
    /// No whole answer came in time.
    TimedOut,
    /// No answer could be had.
    Unavailable(Unavailable),
    /// The breaker is open: the backend failed too often and was not asked.
    Open,
}

/// Why no answer could be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// The host's name stands for no address, or not for one that may be called.
    Address,
    /// No connection: refused, unreachable or too slow.
    Connect,
    /// The certificate is not trusted, or TLS failed otherwise.
    Tls,
    /// The connection broke, or what came is not HTTP.
    Broken,
    /// The answer is over [`super::HooksSettings::max_response_bytes`].
    TooLarge,
    /// As many calls wait for a connection as may.
    Busy,
    /// The server is configured without this target.
    NoTarget,
}

/// As many calls are on their way to the hooks' thread as may be. Answer with a temporary error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// News of a document of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// It is there, or has changed: the document as fetched, JSON by its own word only. For every shard.
    Document(Bytes),
    /// To a shard that asked: it is as it was.
    Unchanged,
    /// To a shard that asked: it could not be fetched. What was fetched before stays good.
    Failed,
}

/// Where the hooks' thread brings what it has. It is called in that thread and must not block.
pub trait Completion: Send + 'static {
    /// A call ended.
    fn complete(&mut self, id: CallId, outcome: HookOutcome);

    /// News of a document of keys: for this shard, or for all.
    fn keys(&mut self, shard: Option<u16>, source: KeySource, keys: Keys);

    /// Brings on what could not be brought before, for want of room. True if some of it still waits; then
    /// this is called again a few milliseconds later.
    fn flush(&mut self) -> bool;
}
