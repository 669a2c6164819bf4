//! The server itself: what it holds, and its end.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde_json::json;

use crate::metrics::Process;
use crate::proto::centrifuge::ErrorCode;
use crate::shard::{Action, AnswerTo, Core, Overview, Whom};

use super::command::{Asked, Caller};
use super::error::ApiError;
use super::request::read;

/// A request in which nothing matters, as long as it is an object.
type Anything = BTreeMap<String, IgnoredAny>;

pub(super) fn info(caller: &mut Caller<'_>, json: &str) -> Result<Asked, ApiError> {
    read::<Anything>(json)?;
    caller.may("info")?;
    let this = ThisNode::of(caller.core);
    caller.order(Whom::default(), Action::Count { pattern: None });
    Ok(Asked::one(move |answer| match answer {
        AnswerTo::Overview(overview) => Ok(this.with(&overview)),
        _ => Err(ApiError::INTERNAL),
    }))
}

/// What does not have to be counted.
struct ThisNode {
    uid: Box<str>,
    uptime_s: u32,
}

impl ThisNode {
    fn of(core: &Core) -> Self {
        Self {
            uid: core.shared.node.clone(),
            uptime_s: core.uptime_s(),
        }
    }

    fn with(&self, overview: &Overview) -> String {
        let process = Process::read();
        let lived_s = f64::from(self.uptime_s.max(1));
        let node = json!({
            "uid": self.uid,
            "name": rustix::system::uname().nodename().to_string_lossy(),
            "version": env!("CARGO_PKG_VERSION"),
            "num_clients": overview.clients,
            "num_users": overview.users(),
            "num_subs": overview.subscriptions,
            "num_channels": overview.subscribed_channels,
            "uptime": self.uptime_s,
            "process": {
                "cpu": process.as_ref().map_or(0.0, |process| process.cpu_s / lived_s * 100.0),
                "rss": process.as_ref().map_or(0, |process| process.resident_bytes),
            },
        });
        json!({ "nodes": [node] }).to_string()
    }
}

/// There is nothing that a backend could call.
pub(super) fn rpc(caller: &mut Caller<'_>, json: &str) -> Result<Asked, ApiError> {
    read::<Anything>(json)?;
    caller.may("rpc")?;
    Err(ErrorCode::MethodNotFound.into())
}

/// Begins the drain, as SIGTERM does.
pub(super) fn drain(caller: &mut Caller<'_>, json: &str) -> Result<Asked, ApiError> {
    read::<Anything>(json)?;
    caller.may("drain")?;
    (caller.core.shared.begin_drain)();
    Ok(Asked::nothing("{}"))
}
