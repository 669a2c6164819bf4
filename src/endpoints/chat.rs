//! `/chat`: the channel `chat`, where clients may publish unless configured otherwise.

use std::sync::Arc;

use crate::shard::{Answer, Core, Exchange};

use super::listening;

pub(super) fn answer(core: &mut Core, exchange: &Exchange<'_>) -> Answer {
    listening::listen(core, exchange, Arc::from("chat"))
}
