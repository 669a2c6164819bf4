//! What outlives a clean restart: this shard's share of the snapshot, given piece by piece and taken up.

use crate::auth::{Revoked, RevokedBy};
use crate::clock::unix_s;
use crate::hub::{Entry, RevocationState, RevokedTokensState, append_entry};

use super::Core;

/// A piece ends with the channel that makes it this long.
const PIECE_BYTES: usize = 1 << 20;

/// A piece of a shard's share.
#[derive(Debug, Default)]
pub struct Piece {
    /// Whole entries.
    pub bytes: Vec<u8>,
    /// Channels among them.
    pub channels: usize,
    /// Channels too large to be kept.
    pub left_out: usize,
    /// Where the next piece begins; `None` if this is the last one.
    pub next: Option<u32>,
}

impl Core {
    /// The piece that begins with the channel at the place `first`. From now on nothing is sequenced
    /// here: what a publisher was told is in the snapshot.
    pub(super) fn export(&mut self, first: u32) -> Piece {
        self.is_frozen = true;
        let now_s = self.now_s();
        let mut piece = Piece::default();
        for (place, state) in self.owned.export(first, self.limits.channel_idle_s, now_s) {
            if piece.bytes.len() >= PIECE_BYTES {
                piece.next = Some(place);
                return piece;
            }
            match append_entry(&Entry::Channel(state), &mut piece.bytes) {
                Ok(()) => piece.channels += 1,
                Err(_) => piece.left_out += 1,
            }
        }
        for state in self.idempotency.export(now_s) {
            // They are short.
            let _ = append_entry(&Entry::Key(state), &mut piece.bytes);
        }
        self.export_revocations(&mut piece.bytes);
        piece
    }

    /// All shards know the same revocations, so one gives them.
    fn export_revocations(&self, out: &mut Vec<u8>) {
        if self.id != 0 {
            return;
        }
        for revoked in self.tokens.revocations.in_force(unix_s()) {
            // They are short.
            let _ = append_entry(&Entry::Revocation(state_of(&revoked)), out);
        }
    }

    /// Takes up what another server gave `away_s` seconds ago of the channels this shard owns now.
    pub(super) fn import(&mut self, entries: Vec<Entry>, away_s: u32) {
        let now_s = self.now_s();
        for entry in entries {
            match entry {
                Entry::Channel(state) => {
                    self.owned.import(state, away_s, now_s);
                }
                Entry::Key(state) => self.idempotency.import(&state, away_s, now_s),
                Entry::Revocation(state) => self.import_revocation(&state),
                Entry::Began { .. } => {}
            }
        }
        self.metrics.channels.set(self.owned.len() as u64);
    }

    /// What is in force no more, or one too many, is forgotten.
    fn import_revocation(&mut self, state: &RevocationState) {
        let (until_s, now_s) = (state.until_s, unix_s());
        if until_s <= now_s {
            return;
        }
        let revocations = &mut self.tokens.revocations;
        let _ = match &state.tokens {
            RevokedTokensState::OfUser {
                user,
                issued_before_s,
            } => revocations.revoke_user(user, *issued_before_s, until_s, now_s),
            RevokedTokensState::Named(id) => revocations.revoke_token(id, until_s, now_s),
        };
    }
}

fn state_of(revoked: &Revoked<'_>) -> RevocationState {
    let tokens = match revoked.by {
        RevokedBy::OfUser {
            user,
            issued_before_s,
        } => RevokedTokensState::OfUser {
            user: user.to_owned(),
            issued_before_s,
        },
        RevokedBy::Named(id) => RevokedTokensState::Named(id.to_owned()),
    };
    RevocationState {
        tokens,
        until_s: revoked.until_s,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use crate::auth::Identity;
    use crate::clock::unix_s;
    use crate::config::Config;
    use crate::hub::{
        Entry, Key, Kind, Limit, Position, Refused, Since, begin_snapshot, read_snapshot,
    };
    use crate::shard::inbox::Asker;
    use crate::shard::testing::{Bed, with_cores};
    use crate::shard::{AnswerTo, Core, PublishOptions, Question, Submission, Submitted};

    const ASKER: Asker = Asker {
        session: Key {
            slot: 0,
            generation: 0,
        },
        tag: 0,
    };

    fn config() -> Config {
        let mut config = Config::default();
        config.channel.without_namespace.history_size = 1000;
        config.channel.without_namespace.history_ttl_s = 600;
        config
    }

    fn publish(core: &mut Core, channel: &str, key: &str) -> Result<Position, Refused> {
        let submission = Submission {
            channel: Arc::from(channel),
            kind: Kind::Text,
            data: Bytes::from(vec![b'x'; 1000]),
            options: Some(Box::new(PublishOptions {
                idempotency_key: key.into(),
                ..PublishOptions::default()
            })),
        };
        match core.publish(submission, ASKER) {
            Submitted::Done(outcome) => outcome,
            Submitted::Pending => panic!("another shard owns {channel}"),
        }
    }

    fn export(bed: &mut Bed) -> (Vec<Entry>, usize) {
        let mut bytes = Vec::new();
        begin_snapshot(&mut bytes);
        let mut pieces = 0;
        for core in &mut bed.cores {
            let mut next = Some(0);
            while let Some(first) = next {
                let piece = core.export(first);
                bytes.extend(piece.bytes);
                next = piece.next;
                pieces += 1;
            }
        }
        let entries = read_snapshot(&bytes).map(Result::unwrap).collect();
        (entries, pieces)
    }

    #[test]
    fn channels_go_on_where_they_were_on_another_number_of_shards() {
        let mut left = Vec::new();
        let mut last = Vec::new();
        with_cores(1, config(), |bed| {
            for channel in 0..4 {
                let name = format!("channel {channel}");
                for i in 0..400 {
                    publish(&mut bed.cores[0], &name, &format!("key {i}")).unwrap();
                }
                last.push(publish(&mut bed.cores[0], &name, "last").unwrap());
            }
            let (entries, pieces) = export(bed);
            assert!(pieces > 1, "a piece is not all of it");
            left = entries;
            let refused = publish(&mut bed.cores[0], "channel 0", "late");
            assert_eq!(refused, Err(Refused::ShardBusy));
        });
        with_cores(3, config(), |bed| {
            for entry in left {
                let name = match &entry {
                    Entry::Channel(state) => &state.name,
                    Entry::Key(state) => &state.channel,
                    Entry::Began { .. } | Entry::Revocation(_) => continue,
                };
                let owner = bed.cores[0].shared.owner_of(name);
                bed.cores[usize::from(owner)].import(vec![entry], 5);
            }
            for (channel, last) in last.into_iter().enumerate() {
                let name = format!("channel {channel}");
                let owner = bed.cores[0].shared.owner_of(&name);
                let core = &mut bed.cores[usize::from(owner)];
                assert_eq!(publish(core, &name, "last"), Ok(last), "it came already");
                let next = publish(core, &name, "next").unwrap();
                assert_eq!((next.epoch, next.offset), (last.epoch, last.offset + 1));
                let question = Question::History {
                    since: Some(Since {
                        epoch: Some(last.epoch),
                        offset: 390,
                    }),
                    limit: Limit::All,
                    direction: crate::hub::Direction::Forward,
                };
                let AnswerTo::History(page) = core.answer_here(&name, question) else {
                    panic!("no history");
                };
                let page = page.expect("the same epoch");
                assert_eq!(page.publications.len(), 12);
            }
        });
    }

    #[test]
    fn tokens_stay_revoked_on_every_shard() {
        let now_s = unix_s();
        let mut left = Vec::new();
        with_cores(2, config(), |bed| {
            for core in &mut bed.cores {
                let revocations = &mut core.tokens.revocations;
                revocations
                    .revoke_user("ada", Some(now_s), now_s + 600, now_s)
                    .unwrap();
                revocations
                    .revoke_user("bob", None, now_s - 1, now_s)
                    .unwrap();
                revocations.revoke_token("t", now_s + 600, now_s).unwrap();
            }
            left = export(bed).0;
            assert_eq!(left.len(), 2, "what has ended is left out: {left:?}");
        });
        with_cores(3, config(), |bed| {
            for core in &mut bed.cores {
                core.import(left.clone(), 5);
                let is_revoked = |user, token_id, issued_at_s| {
                    let identity = Identity {
                        user,
                        token_id,
                        issued_at_s,
                    };
                    core.tokens.revocations.is_revoked(identity, unix_s())
                };
                assert!(is_revoked("ada", None, Some(now_s - 1)));
                assert!(!is_revoked("ada", None, Some(now_s)));
                assert!(!is_revoked("bob", None, None));
                assert!(is_revoked("bob", Some("t"), None));
            }
        });
    }
}
