//! What the application's backend is asked about a client, and how it answers: JSON bodies of HTTP POSTs.

mod answer;
mod request;

pub use answer::{
    Answer, BadAnswer, Base64, ConnectResult, Override, PublishResult, RefreshResult, RpcResult,
    SubRefreshResult, SubscribeOptions, SubscribeResult, Switch, decode, payload,
};
pub use request::{HookRequest, NotJson, Payload};

/// The code of an error whose cause is inside of the server or the backend. It is temporary: the client may try again.
pub const INTERNAL_ERROR: u32 = 100;
