//! Tokens that are refused although their signature is right, until they would have expired anyway.

use std::collections::HashMap;
use std::fmt;

use super::claims::Identity;

/// Revoked users and tokens. Each entry has an end, and there are only so many.
#[derive(Clone, Debug)]
pub struct Revocations {
    users: HashMap<String, Entry>,
    tokens: HashMap<String, Entry>,
    limit: usize,
}

/// A revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoked<'a> {
    /// Which tokens are.
    pub by: RevokedBy<'a>,
    /// The Unix second from which it counts no more.
    pub until_s: i64,
}

/// Which tokens are revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RevokedBy<'a> {
    /// Those of a user.
    OfUser {
        /// Whose.
        user: &'a str,
        /// Only those issued before this Unix second; `None` = all.
        issued_before_s: Option<i64>,
    },
    /// The one with this name (`jti`).
    Named(&'a str),
}

/// There are as many revocations as allowed, and none of them has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevocationsFull;

impl fmt::Display for RevocationsFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many revocations")
    }
}

impl std::error::Error for RevocationsFull {}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Only tokens issued before this Unix second; `None` = all.
    issued_before_s: Option<i64>,
    /// The Unix second from which the entry counts no more.
    until_s: i64,
}

impl Entry {
    fn covers(self, issued_at_s: Option<i64>, now_s: i64) -> bool {
        // A token that does not say when it was issued may be an old one.
        let is_old = |before_s| issued_at_s.is_none_or(|at_s| at_s < before_s);
        now_s < self.until_s && self.issued_before_s.is_none_or(is_old)
    }

    /// The entry that covers all of both.
    fn with(self, other: Self) -> Self {
        let both = self.issued_before_s.zip(other.issued_before_s);
        Self {
            issued_before_s: both.map(|(one, two)| one.max(two)),
            until_s: self.until_s.max(other.until_s),
        }
    }
}

impl Revocations {
    /// None yet, and never more than `limit`.
    pub fn new(limit: usize) -> Self {
        Self {
            users: HashMap::new(),
            tokens: HashMap::new(),
            limit,
        }
    }

    /// Revokes the user's tokens, or those issued before a moment, until `until_s`; all in Unix seconds. What was
    /// revoked before stays so.
    ///
    /// # Errors
    /// There is no room.
    pub fn revoke_user(
        &mut self,
        user: &str,
        issued_before_s: Option<i64>,
        until_s: i64,
        now_s: i64,
    ) -> Result<(), RevocationsFull> {
        self.make_room(now_s)?;
        let entry = Entry {
            issued_before_s,
            until_s,
        };
        add(&mut self.users, user, entry, now_s);
        Ok(())
    }

    /// Revokes the token with this `jti` until `until_s`, which should be its `exp`; both in Unix seconds.
    ///
    /// # Errors
    /// There is no room.
    pub fn revoke_token(
        &mut self,
        token_id: &str,
        until_s: i64,
        now_s: i64,
    ) -> Result<(), RevocationsFull> {
        self.make_room(now_s)?;
        let entry = Entry {
            issued_before_s: None,
            until_s,
        };
        add(&mut self.tokens, token_id, entry, now_s);
        Ok(())
    }

    /// Whether a token is revoked at `now_s`, in Unix seconds.
    pub fn is_revoked(&self, identity: Identity<'_>, now_s: i64) -> bool {
        let covers = |entry: &Entry| entry.covers(identity.issued_at_s, now_s);
        let token = identity.token_id.and_then(|id| self.tokens.get(id));
        self.users.get(identity.user).is_some_and(covers) || token.is_some_and(covers)
    }

    /// What is revoked at `now_s`, in Unix seconds, in no order.
    pub fn in_force(&self, now_s: i64) -> impl Iterator<Item = Revoked<'_>> {
        let users = self.users.iter().map(|(user, entry)| {
            let issued_before_s = entry.issued_before_s;
            let by = RevokedBy::OfUser {
                user,
                issued_before_s,
            };
            (by, entry)
        });
        let named = self.tokens.iter();
        let named = named.map(|(token_id, entry)| (RevokedBy::Named(token_id), entry));
        let all = users.chain(named).map(|(by, entry)| Revoked {
            by,
            until_s: entry.until_s,
        });
        all.filter(move |revoked| now_s < revoked.until_s)
    }

    /// Entries, ended ones included that were not needed for room.
    pub fn len(&self) -> usize {
        self.users.len() + self.tokens.len()
    }

    /// True if nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn make_room(&mut self, now_s: i64) -> Result<(), RevocationsFull> {
        if self.len() >= self.limit {
            self.users.retain(|_, entry| now_s < entry.until_s);
            self.tokens.retain(|_, entry| now_s < entry.until_s);
        }
        match self.len() < self.limit {
            true => Ok(()),
            false => Err(RevocationsFull),
        }
    }
}

fn add(entries: &mut HashMap<String, Entry>, name: &str, entry: Entry, now_s: i64) {
    let earlier = entries.get(name).filter(|earlier| now_s < earlier.until_s);
    let entry = earlier.map_or(entry, |earlier| earlier.with(entry));
    entries.insert(name.to_owned(), entry);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity<'a>(user: &'a str, token_id: &'a str, issued_at_s: Option<i64>) -> Identity<'a> {
        Identity {
            user,
            token_id: Some(token_id),
            issued_at_s,
        }
    }

    #[test]
    fn a_user_is_revoked_until_the_end() {
        let mut revocations = Revocations::new(8);
        revocations.revoke_user("42", None, 200, 100).unwrap();
        for (user, now_s, is_revoked) in [("42", 199, true), ("42", 200, false), ("43", 100, false)]
        {
            let identity = identity(user, "t", Some(150));
            assert_eq!(
                revocations.is_revoked(identity, now_s),
                is_revoked,
                "{user} {now_s}"
            );
        }
    }

    #[test]
    fn only_tokens_issued_before_are_revoked() {
        let mut revocations = Revocations::new(8);
        revocations.revoke_user("42", Some(100), 500, 100).unwrap();
        for (issued_at_s, is_revoked) in [(Some(99), true), (Some(100), false), (None, true)] {
            let identity = identity("42", "t", issued_at_s);
            assert_eq!(
                revocations.is_revoked(identity, 110),
                is_revoked,
                "{issued_at_s:?}"
            );
        }
    }

    #[test]
    fn a_later_revocation_takes_nothing_back() {
        let mut revocations = Revocations::new(8);
        revocations.revoke_user("42", Some(100), 500, 100).unwrap();
        revocations.revoke_user("42", Some(50), 300, 100).unwrap();
        assert!(revocations.is_revoked(identity("42", "t", Some(99)), 400));
        revocations.revoke_user("42", None, 300, 100).unwrap();
        assert!(revocations.is_revoked(identity("42", "t", Some(1000)), 400));
        // But one that has ended is gone.
        revocations.revoke_user("42", Some(600), 700, 600).unwrap();
        assert!(!revocations.is_revoked(identity("42", "t", Some(600)), 600));
    }

    #[test]
    fn a_token_is_revoked_by_its_name() {
        let mut revocations = Revocations::new(8);
        revocations.revoke_token("a", 200, 100).unwrap();
        assert!(revocations.is_revoked(identity("1", "a", Some(5)), 100));
        assert!(!revocations.is_revoked(identity("1", "b", Some(5)), 100));
        assert!(!revocations.is_revoked(identity("a", "1", Some(5)), 100));
        let unnamed = Identity {
            token_id: None,
            ..identity("1", "", None)
        };
        assert!(!revocations.is_revoked(unnamed, 100));
    }

    #[test]
    fn what_is_in_force_can_be_had() {
        let mut revocations = Revocations::new(8);
        revocations.revoke_user("1", Some(50), 200, 100).unwrap();
        revocations.revoke_user("2", None, 150, 100).unwrap();
        revocations.revoke_token("1", 300, 100).unwrap();
        let mut in_force: Vec<_> = revocations.in_force(150).collect();
        in_force.sort_by_key(|revoked| revoked.by);
        let (user, issued_before_s) = ("1", Some(50));
        let of_user = RevokedBy::OfUser {
            user,
            issued_before_s,
        };
        let found: Vec<_> = in_force.iter().map(|one| (one.by, one.until_s)).collect();
        assert_eq!(found, [(of_user, 200), (RevokedBy::Named("1"), 300)]);
    }

    #[test]
    fn the_number_is_bounded_and_ended_ones_make_room() {
        let mut revocations = Revocations::new(2);
        revocations.revoke_user("1", None, 200, 100).unwrap();
        revocations.revoke_token("1", 300, 100).unwrap();
        assert_eq!(
            revocations.revoke_token("2", 300, 199),
            Err(RevocationsFull)
        );
        assert_eq!(revocations.revoke_token("2", 300, 200), Ok(()));
        assert_eq!(revocations.len(), 2);
        assert_eq!(
            revocations.revoke_user("3", None, 300, 200),
            Err(RevocationsFull)
        );
    }
}
