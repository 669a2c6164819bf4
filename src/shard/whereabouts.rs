//! Where a client is, which its id says, and the secret name of its session too: so it is found without a search.

use super::asks::Whom;

/// Where connections are that somebody means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whereabouts {
    /// On any shard.
    Anywhere,
    /// At this place, if it is still there.
    At {
        /// The shard.
        shard: u16,
        /// The place in its table of sessions.
        slot: u32,
    },
    /// No client of this server has such a name.
    Nowhere,
}

impl Whom {
    /// Where they are.
    pub(super) fn whereabouts(&self) -> Whereabouts {
        let place = match (&*self.client, &*self.session) {
            ("", "") => return Whereabouts::Anywhere,
            ("", session) => of_session(session),
            (client, _) => of_client(client),
        };
        match place {
            Some((shard, slot)) => Whereabouts::At { shard, slot },
            None => Whereabouts::Nowhere,
        }
    }
}

/// A UUID whose first 32 bits are the place, and the next 16 the shard.
fn of_client(id: &str) -> Option<(u16, u32)> {
    let mut parts = id.split('-');
    let slot = parts.next().filter(|slot| slot.len() == 8)?;
    let shard = parts.next().filter(|shard| shard.len() == 4)?;
    read(shard, slot)
}

/// The shard, the place, and the secret.
fn of_session(name: &str) -> Option<(u16, u32)> {
    read(name.get(..4)?, name.get(4..12)?)
}

fn read(shard: &str, slot: &str) -> Option<(u16, u32)> {
    let shard = u16::from_str_radix(shard, 16).ok()?;
    Some((shard, u32::from_str_radix(slot, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(client: &str, session: &str) -> Whereabouts {
        let whom = Whom {
            client: client.into(),
            session: session.into(),
            ..Whom::default()
        };
        whom.whereabouts()
    }

    #[test]
    fn names_say_where_their_client_is() {
        let (shard, slot) = (0xa1, 0x1_0002);
        let id = "00010002-00a1-8000-8000-000000000000";
        let session = "00a1000100020123456789abcdef0123456789abcdef";
        assert_eq!(of("", ""), Whereabouts::Anywhere);
        assert_eq!(of(id, ""), Whereabouts::At { shard, slot });
        assert_eq!(of("", session), Whereabouts::At { shard, slot });
        assert_eq!(of(id, "other"), Whereabouts::At { shard, slot });
    }

    #[test]
    fn other_names_are_nobodys() {
        for name in [
            "nope",
            "0001",
            "00010002",
            "00010002-",
            "00010002-00g1-8",
            "\u{e9}\u{e9}-x",
        ] {
            assert_eq!(of(name, ""), Whereabouts::Nowhere, "{name}");
        }
        for name in ["00a1", "00a1000x0002", "\u{e9}0a100010002"] {
            assert_eq!(of("", name), Whereabouts::Nowhere, "{name}");
        }
    }
}
