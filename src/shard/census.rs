//! How many connections a user has, over all shards, before one more is let in.

use std::sync::Arc;

use crate::hub::Key;
use crate::proto::centrifuge::Disconnect;

use super::Core;
use super::asks::{Action, AnswerTo, Order, Whom};
use super::client::Awaited;
use super::commands::Refusal;
use super::connecting::Newcomer;
use super::inbox::{Asker, Message};

/// A client that is let in if its user has few enough connections.
pub(super) struct Census {
    newcomer: Newcomer,
    /// Shards that have not answered.
    outstanding: usize,
    /// Connections of those that have.
    connections: u32,
}

impl Core {
    /// Lets a client in, unless its user has as many connections as it may. Two that come at the same moment do not
    /// see each other.
    pub(super) fn count_connections(
        &mut self,
        key: Key,
        newcomer: Newcomer,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let limit = self.shared.config.client.limits.user_connection_limit;
        let user = &newcomer.admitted.user;
        if limit == 0 || user.is_empty() {
            return self.let_in(key, newcomer, out);
        }
        let mut order = number_of(key, Arc::clone(user));
        let connections = connections_in(&self.obey_here(&order));
        if connections >= limit {
            return Err(Disconnect::ConnectionLimit.into());
        }
        let outstanding = self.links.len() - 1;
        if outstanding == 0 {
            return self.let_in(key, newcomer, out);
        }
        let census = Census {
            newcomer,
            outstanding,
            connections,
        };
        let waiting = Awaited::Census(Box::new(census));
        order.asker.tag = self.client_mut(key)?.wait(waiting);
        for shard in 0..self.links.len() as u16 {
            if shard != self.id {
                self.tell(shard, Message::Order(Box::new(order.clone())));
            }
        }
        Ok(())
    }

    /// Another shard said how many connections of the user it has.
    pub(super) fn counted(&mut self, asker: Asker, mut census: Box<Census>, answer: &AnswerTo) {
        let key = asker.session;
        census.outstanding = census.outstanding.saturating_sub(1);
        census.connections = census.connections.saturating_add(connections_in(answer));
        if census.outstanding > 0 {
            if let Ok(client) = self.client_mut(key) {
                client.wait_on(asker.tag, Awaited::Census(census));
            }
            return;
        }
        let Census {
            newcomer,
            connections,
            ..
        } = *census;
        let id = newcomer.id;
        let mut out = Vec::new();
        let limit = self.shared.config.client.limits.user_connection_limit;
        let done = match connections < limit {
            true => self.let_in(key, newcomer, &mut out),
            false => Err(Disconnect::ConnectionLimit.into()),
        };
        if done.is_err() {
            self.refuse_connect(key);
        }
        self.conclude_later(key, id, done, out);
    }
}

/// The question how many connections a user has.
fn number_of(session: Key, user: Arc<str>) -> Order {
    Order {
        asker: Asker { session, tag: 0 },
        whom: Whom {
            user: Some(user),
            ..Whom::default()
        },
        action: Action::Number,
    }
}

fn connections_in(answer: &AnswerTo) -> u32 {
    match answer {
        AnswerTo::Connections(connections) => *connections,
        _ => 0,
    }
}
