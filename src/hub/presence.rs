//! Who is on a channel.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::ClientInfo;

/// There are as many clients on the channel as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresenceFull;

/// How many are on a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PresenceStats {
    /// Clients.
    pub clients: usize,
    /// Users they belong to, each counted once.
    pub users: usize,
}

/// The clients on a channel by their ids, and how many each user has.
#[derive(Debug, Default)]
pub(super) struct Presence {
    clients: HashTable<Arc<ClientInfo>>,
    users: HashMap<Arc<str>, u32>,
    hasher: RandomState,
}

impl Presence {
    /// True if nobody is there.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Adds a client, or replaces what is known of it. True if it is new.
    pub fn add(&mut self, info: Arc<ClientInfo>, limit: usize) -> Result<bool, PresenceFull> {
        let hash = self.hasher.hash_one(&*info.client);
        let hasher = &self.hasher;
        let has_room = self.clients.len() < limit;
        let entry = self.clients.entry(
            hash,
            |other| other.client == info.client,
            |other| hasher.hash_one(&*other.client),
        );
        let user = Arc::clone(&info.user);
        let replaced = match entry {
            Entry::Occupied(mut entry) => Some(std::mem::replace(entry.get_mut(), info)),
            Entry::Vacant(_) if !has_room => return Err(PresenceFull),
            Entry::Vacant(entry) => {
                entry.insert(info);
                None
            }
        };
        *self.users.entry(user).or_default() += 1;
        if let Some(replaced) = &replaced {
            self.forget_user(&replaced.user);
        }
        Ok(replaced.is_none())
    }

    /// Takes a client out and returns what was known of it.
    pub fn remove(&mut self, client: &str) -> Option<Arc<ClientInfo>> {
        let hash = self.hasher.hash_one(client);
        let entry = self
            .clients
            .find_entry(hash, |info| *info.client == *client);
        let (info, _) = entry.ok()?.remove();
        self.forget_user(&info.user);
        Some(info)
    }

    /// Everybody, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ClientInfo>> {
        self.clients.iter()
    }

    /// How many there are.
    pub fn stats(&self) -> PresenceStats {
        PresenceStats {
            clients: self.clients.len(),
            users: self.users.len(),
        }
    }

    /// One client less of `user`.
    fn forget_user(&mut self, user: &str) {
        if let Some(clients) = self.users.get_mut(user) {
            *clients -= 1;
            if *clients == 0 {
                self.users.remove(user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(client: &str, user: &str) -> Arc<ClientInfo> {
        Arc::new(ClientInfo {
            user: user.into(),
            client: client.into(),
            ..ClientInfo::default()
        })
    }

    #[test]
    fn a_user_counts_once_until_the_last_of_its_clients_left() {
        let mut presence = Presence::default();
        for (id, user) in [("1", "ada"), ("2", "ada"), ("3", "")] {
            assert_eq!(presence.add(client(id, user), 3), Ok(true));
        }
        let (clients, users) = (3, 2);
        assert_eq!(presence.stats(), PresenceStats { clients, users });
        presence.remove("1");
        assert_eq!(presence.stats().users, 2);
        presence.remove("2");
        assert_eq!(presence.stats().users, 1);
        assert!(presence.remove("2").is_none());
    }

    #[test]
    fn a_client_that_changes_its_user_is_still_one() {
        let mut presence = Presence::default();
        assert_eq!(presence.add(client("1", "ada"), 1), Ok(true));
        assert_eq!(presence.add(client("1", "bob"), 1), Ok(false));
        assert_eq!(presence.add(client("1", "bob"), 1), Ok(false));
        assert_eq!(presence.add(client("2", "bob"), 1), Err(PresenceFull));
        let (clients, users) = (1, 1);
        assert_eq!(presence.stats(), PresenceStats { clients, users });
        assert_eq!(
            presence.remove("1").map(|info| info.user.to_string()),
            Some("bob".into())
        );
        assert_eq!(presence.stats(), PresenceStats::default());
    }
}
