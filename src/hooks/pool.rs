//! Who gets which connection to a backend, who waits, and what is closed.
//!
//! Plain data: no socket, no clock, no task. The caller dials, keeps the time (in milliseconds of a clock that goes
//! on while the machine is suspended), and does what it is told.
//!
//! - A connection in hand is a *place*: dialing, lent or idle. There are never more places than `max_connections`.
//! - Idle connections are lent last in, first out, so that those not needed any more grow old and are closed.
//! - Age is looked at when a connection is taken: no timer per connection, and a machine that slept does not use
//!   what the backend closed long ago. One sweep closes what nobody takes.
//! - Whoever finds no idle connection waits, and meanwhile one is dialed if there is a place. The oldest waiter gets
//!   whichever comes first, a new connection or one that another call gives back.

use std::collections::VecDeque;

/// The bounds of the connections to one scheme, host and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Connections at most, whether dialing, lent or idle. At least 1.
    pub max_connections: usize,
    /// Idle connections kept at most; 0 closes every connection after its call.
    pub max_idle: usize,
    /// How long a connection may be idle, in milliseconds. Below the backend's own keep-alive time-out.
    pub idle_timeout_ms: u64,
    /// Calls that wait at most, beyond as many as connections are being dialed.
    pub max_waiters: usize,
}

/// Names a call that waits. The caller chooses it; no two that wait have the same.
pub type Waiter = u64;

/// What a call that wants a connection gets.
#[derive(Debug, PartialEq, Eq)]
pub enum Take<C> {
    /// This idle connection.
    Idle(C),
    /// Nothing yet: it waits, and the caller dials a connection.
    Dial,
    /// Nothing yet: it waits until another call gives a connection back.
    Wait,
    /// Nothing: as many wait as may.
    Full,
}

/// What becomes of a connection that was dialed or given back.
#[derive(Debug, PartialEq, Eq)]
pub enum Given<C> {
    /// It is lent to this waiter.
    To(Waiter, C),
    /// It is kept.
    Kept,
    /// It is to be closed; [`Pool::closed`] once it is.
    Surplus(C),
}

/// What follows from a dial that failed.
#[derive(Debug, PartialEq, Eq)]
pub struct DialFailed {
    /// Waits no more and is to be told.
    pub failed: Option<Waiter>,
    /// The caller dials another connection, for those who wait on.
    pub dials_again: bool,
}

#[derive(Debug)]
struct Idle<C> {
    connection: C,
    since_ms: u64,
}

/// The connections to one scheme, host and port.
#[derive(Debug)]
pub struct Pool<C> {
    limits: PoolLimits,
    /// Oldest first. All of the same time-out, so they also end in this order.
    idle: VecDeque<Idle<C>>,
    /// Oldest first. A ring: what leaves at the front leaves no hole behind.
    waiting: VecDeque<Waiter>,
    /// Dialing, lent, idle, or being closed.
    places: usize,
    dials: usize,
}

impl<C> Pool<C> {
    /// A pool without connections.
    pub fn new(limits: PoolLimits) -> Self {
        Self {
            limits,
            idle: VecDeque::new(),
            waiting: VecDeque::new(),
            places: 0,
            dials: 0,
        }
    }

    /// A connection for `waiter`, the most recently used first. Idle ones that are too old or not
    /// `is_alive` any more go to `dead`, to be closed; [`Self::closed`] once each is.
    pub fn take(
        &mut self,
        waiter: Waiter,
        now_ms: u64,
        is_alive: impl Fn(&C) -> bool,
        dead: &mut Vec<C>,
    ) -> Take<C> {
        self.sweep(now_ms, &is_alive, dead);
        if let Some(idle) = self.idle.pop_back() {
            return Take::Idle(idle.connection);
        }
        let has_place = self.places < self.limits.max_connections;
        if !has_place && self.undialed() >= self.limits.max_waiters {
            return Take::Full;
        }
        self.waiting.push_back(waiter);
        match self.dial_if_wanted() {
            true => Take::Dial,
            false => Take::Wait,
        }
    }

    /// A call needs its connection no more, and the connection can serve another.
    pub fn give_back(&mut self, connection: C, now_ms: u64) -> Given<C> {
        if let Some(waiter) = self.waiting.pop_front() {
            return Given::To(waiter, connection);
        }
        if self.idle.len() >= self.limits.max_idle {
            return Given::Surplus(connection);
        }
        self.idle.push_back(Idle {
            connection,
            since_ms: now_ms,
        });
        Given::Kept
    }

    /// A dial succeeded: the oldest waiter gets the connection.
    pub fn dialed(&mut self, connection: C, now_ms: u64) -> Given<C> {
        self.dials = self.dials.saturating_sub(1);
        self.give_back(connection, now_ms)
    }

    /// A dial failed. The oldest waiter fails with it, unless other dials go on for all who wait.
    pub fn dial_failed(&mut self) -> DialFailed {
        self.dials = self.dials.saturating_sub(1);
        self.places = self.places.saturating_sub(1);
        let failed = match self.undialed() {
            0 => None,
            _ => self.waiting.pop_front(),
        };
        let dials_again = self.dial_if_wanted();
        DialFailed {
            failed,
            dials_again,
        }
    }

    /// A connection is closed. True if the caller dials another, for those who wait.
    #[must_use]
    pub fn closed(&mut self) -> bool {
        self.places = self.places.saturating_sub(1);
        self.dial_if_wanted()
    }

    /// A waiter waits no more. False if it did not. The dials go on, for whoever comes.
    pub fn cancel(&mut self, waiter: Waiter) -> bool {
        // Those that time out are the oldest, at the front.
        let place = self.waiting.iter().position(|waiting| *waiting == waiter);
        place.and_then(|at| self.waiting.remove(at)).is_some()
    }

    /// Takes out idle connections that are too old or not `is_alive` any more.
    pub fn sweep(&mut self, now_ms: u64, is_alive: impl Fn(&C) -> bool, dead: &mut Vec<C>) {
        let timeout_ms = self.limits.idle_timeout_ms;
        let is_usable = |idle: &Idle<C>| {
            now_ms.saturating_sub(idle.since_ms) < timeout_ms && is_alive(&idle.connection)
        };
        if self.idle.iter().all(is_usable) {
            return;
        }
        for idle in std::mem::take(&mut self.idle) {
            match is_usable(&idle) {
                true => self.idle.push_back(idle),
                false => dead.push(idle.connection),
            }
        }
    }

    /// Takes out every idle connection: one of them was found closed, so the backend may have started anew.
    pub fn purge(&mut self) -> Vec<C> {
        let idle = std::mem::take(&mut self.idle);
        idle.into_iter().map(|idle| idle.connection).collect()
    }

    /// Connections in hand: dialing, lent, idle or being closed.
    pub fn places(&self) -> usize {
        self.places
    }

    /// Connections that nobody uses.
    pub fn idle(&self) -> usize {
        self.idle.len()
    }

    /// Calls that wait for a connection.
    pub fn waiters(&self) -> usize {
        self.waiting.len()
    }

    /// Takes a place for a dial, if one is free and somebody waits for whom none is under way.
    fn dial_if_wanted(&mut self) -> bool {
        let is_wanted = self.places < self.limits.max_connections && self.undialed() > 0;
        self.places += usize::from(is_wanted);
        self.dials += usize::from(is_wanted);
        is_wanted
    }

    /// Waiters beyond the dials under way.
    fn undialed(&self) -> usize {
        self.waiting.len().saturating_sub(self.dials)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: PoolLimits = PoolLimits {
        max_connections: 2,
        max_idle: 2,
        idle_timeout_ms: 1000,
        max_waiters: 1,
    };

    fn take(pool: &mut Pool<u32>, waiter: Waiter, now_ms: u64) -> Take<u32> {
        pool.take(waiter, now_ms, |_| true, &mut Vec::new())
    }

    /// Waiters 1 to `last` come.
    fn queue(pool: &mut Pool<u32>, last: Waiter) {
        for waiter in 1..=last {
            take(pool, waiter, 0);
        }
    }

    /// A pool with connections 1 and 2 idle, given back at 10 and 20.
    fn two_idle() -> Pool<u32> {
        let mut pool = Pool::new(LIMITS);
        assert_eq!(take(&mut pool, 1, 0), Take::Dial);
        assert_eq!(take(&mut pool, 2, 0), Take::Dial);
        assert_eq!(pool.dialed(1, 0), Given::To(1, 1));
        assert_eq!(pool.dialed(2, 0), Given::To(2, 2));
        assert_eq!(pool.give_back(1, 10), Given::Kept);
        assert_eq!(pool.give_back(2, 20), Given::Kept);
        pool
    }

    #[test]
    fn the_most_recently_used_is_lent_first() {
        let mut pool = two_idle();
        assert_eq!(take(&mut pool, 3, 30), Take::Idle(2));
        assert_eq!(take(&mut pool, 4, 30), Take::Idle(1));
    }

    #[test]
    fn an_idle_connection_is_closed_at_its_age_and_not_before() {
        let mut pool = two_idle();
        let mut dead = Vec::new();
        pool.sweep(1009, |_| true, &mut dead);
        assert!(dead.is_empty());
        pool.sweep(1010, |_| true, &mut dead);
        assert_eq!(dead, [1]);
        assert_eq!(pool.take(3, 1020, |_| true, &mut dead), Take::Wait);
        assert_eq!(dead, [1, 2]);
        assert!(pool.closed(), "a place is free for the one that waits");
    }

    #[test]
    fn one_that_the_backend_closed_is_not_lent() {
        let mut pool = two_idle();
        let mut dead = Vec::new();
        assert_eq!(pool.take(3, 30, |c| *c != 2, &mut dead), Take::Idle(1));
        assert_eq!(dead, [2]);
    }

    #[test]
    fn beyond_the_places_calls_wait_and_beyond_the_waiters_they_are_refused() {
        let mut pool = Pool::new(LIMITS);
        let taken: Vec<_> = (1..=4).map(|waiter| take(&mut pool, waiter, 0)).collect();
        assert_eq!(taken, [Take::Dial, Take::Dial, Take::Wait, Take::Full]);
    }

    #[test]
    fn a_waiter_gets_what_comes_first_and_its_dial_serves_the_next() {
        let mut pool = Pool::new(LIMITS);
        take(&mut pool, 1, 0);
        assert_eq!(pool.dialed(1, 0), Given::To(1, 1));
        assert_eq!(take(&mut pool, 2, 0), Take::Dial);
        assert_eq!(pool.give_back(1, 1), Given::To(2, 1));
        assert_eq!(
            pool.dialed(2, 2),
            Given::Kept,
            "nobody waits for it any more"
        );
        assert_eq!((pool.places(), pool.idle()), (2, 1));
    }

    #[test]
    fn the_oldest_waiter_is_served_first() {
        let mut pool = Pool::new(PoolLimits {
            max_waiters: 9,
            ..LIMITS
        });
        queue(&mut pool, 4);
        let order = [10, 11, 12].map(|connection| pool.dialed(connection, 0));
        assert_eq!(
            order,
            [Given::To(1, 10), Given::To(2, 11), Given::To(3, 12)]
        );
    }

    #[test]
    fn a_failed_dial_fails_the_oldest_waiter_and_dials_for_another() {
        let mut pool = Pool::new(LIMITS);
        queue(&mut pool, 3);
        let outcome = pool.dial_failed();
        let expected = DialFailed {
            failed: Some(1),
            dials_again: true,
        };
        assert_eq!(outcome, expected);
        assert_eq!(pool.places(), 2);
    }

    #[test]
    fn a_failed_dial_fails_nobody_for_whom_another_goes_on() {
        let mut pool = Pool::new(LIMITS);
        queue(&mut pool, 2);
        assert!(pool.cancel(1));
        assert!(!pool.cancel(1));
        let nobody = DialFailed {
            failed: None,
            dials_again: false,
        };
        assert_eq!(pool.dial_failed(), nobody);
        assert_eq!((pool.places(), pool.waiters()), (1, 1));
    }

    #[test]
    fn whose_dial_served_another_fails_with_the_other_ones_dial() {
        let mut pool = Pool::new(LIMITS);
        queue(&mut pool, 2);
        assert_eq!(pool.dialed(10, 0), Given::To(1, 10));
        assert_eq!(pool.dial_failed().failed, Some(2));
    }

    #[test]
    fn more_idle_than_may_be_kept_are_closed() {
        let mut pool = Pool::new(PoolLimits {
            max_idle: 0,
            ..LIMITS
        });
        take(&mut pool, 1, 0);
        assert_eq!(pool.dialed(1, 0), Given::To(1, 1));
        assert_eq!(pool.give_back(1, 0), Given::Surplus(1));
        assert!(!pool.closed());
        assert_eq!(pool.places(), 0);
    }

    #[test]
    fn a_purge_takes_all_idle_ones_and_leaves_their_places_until_they_are_closed() {
        let mut pool = two_idle();
        assert_eq!(pool.purge(), [1, 2]);
        assert_eq!((pool.places(), pool.idle()), (2, 0));
        assert_eq!(take(&mut pool, 3, 30), Take::Wait);
        assert!(pool.closed());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Take,
        /// A dial ends, well or not.
        EndDial(bool),
        /// Of the connections lent, the one at this index is given back or closed.
        Return(prop::sample::Index, bool),
        Cancel(prop::sample::Index),
        Pass(u16),
        Sweep,
        Purge,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let index = any::<prop::sample::Index>;
        let step = prop_oneof![
            5 => Just(Step::Take),
            4 => any::<bool>().prop_map(Step::EndDial),
            4 => (index(), any::<bool>()).prop_map(|(i, ok)| Step::Return(i, ok)),
            1 => index().prop_map(Step::Cancel),
            1 => any::<u16>().prop_map(Step::Pass),
            1 => Just(Step::Sweep),
            1 => Just(Step::Purge),
        ];
        prop::collection::vec(step, 1..200)
    }

    /// What everybody outside of the pool holds.
    #[derive(Default)]
    struct World {
        next: u32,
        now_ms: u64,
        dials: usize,
        lent: Vec<u32>,
        waiting: Vec<Waiter>,
        kept: Vec<(u32, u64)>,
    }

    impl World {
        fn step(&mut self, pool: &mut Pool<u32>, limits: PoolLimits, step: Step) {
            match step {
                Step::Take => self.take(pool, limits),
                Step::EndDial(ok) if self.dials > 0 => self.end_dial(pool, ok),
                Step::Return(i, keep) if !self.lent.is_empty() => {
                    let connection = self.lent.remove(i.index(self.lent.len()));
                    match keep {
                        true => {
                            let given = pool.give_back(connection, self.now_ms);
                            self.given(pool, connection, given);
                        }
                        false => self.close(pool),
                    }
                }
                Step::Cancel(i) if !self.waiting.is_empty() => {
                    let waiter = self.waiting.remove(i.index(self.waiting.len()));
                    assert!(pool.cancel(waiter));
                }
                Step::Pass(ms) => self.now_ms += u64::from(ms),
                Step::Sweep => {
                    let mut dead = Vec::new();
                    pool.sweep(self.now_ms, |_| true, &mut dead);
                    self.swept(pool, limits, &dead);
                }
                Step::Purge => {
                    let purged = pool.purge();
                    assert_eq!(purged.len(), self.kept.len());
                    self.kept.clear();
                    purged.iter().for_each(|_| self.close(pool));
                }
                _ => {}
            }
        }

        fn take(&mut self, pool: &mut Pool<u32>, limits: PoolLimits) {
            self.next += 1;
            let waiter = Waiter::from(self.next);
            let mut dead = Vec::new();
            let taken = pool.take(waiter, self.now_ms, |_| true, &mut dead);
            let waits = matches!(taken, Take::Dial | Take::Wait);
            match taken {
                Take::Idle(connection) => {
                    let youngest = self.kept.pop().unwrap();
                    assert_eq!(youngest.0, connection, "last in, first out");
                    assert!(self.now_ms - youngest.1 < limits.idle_timeout_ms);
                    self.lent.push(connection);
                }
                Take::Dial => self.dials += 1,
                Take::Wait => {}
                Take::Full => assert!(self.waiting.len() >= limits.max_waiters),
            }
            self.waiting.extend(waits.then_some(waiter));
            self.swept(pool, limits, &dead);
        }

        fn swept(&mut self, pool: &mut Pool<u32>, limits: PoolLimits, dead: &[u32]) {
            let now_ms = self.now_ms;
            let is_old = |since: u64| now_ms - since >= limits.idle_timeout_ms;
            let old: Vec<u32> = self
                .kept
                .iter()
                .filter(|k| is_old(k.1))
                .map(|k| k.0)
                .collect();
            assert_eq!(old, dead);
            self.kept.retain(|kept| !is_old(kept.1));
            dead.iter().for_each(|_| self.close(pool));
        }

        fn end_dial(&mut self, pool: &mut Pool<u32>, is_ok: bool) {
            self.dials -= 1;
            if is_ok {
                self.next += 1;
                let given = pool.dialed(self.next, self.now_ms);
                return self.given(pool, self.next, given);
            }
            let is_short = self.waiting.len() > self.dials;
            let outcome = pool.dial_failed();
            assert_eq!(outcome.failed, is_short.then(|| self.waiting.remove(0)));
            self.dials += usize::from(outcome.dials_again);
        }

        fn given(&mut self, pool: &mut Pool<u32>, connection: u32, given: Given<u32>) {
            match given {
                Given::To(waiter, lent) => {
                    assert_eq!((self.waiting.remove(0), connection), (waiter, lent));
                    self.lent.push(lent);
                }
                Given::Kept => self.kept.push((connection, self.now_ms)),
                Given::Surplus(_) => self.close(pool),
            }
        }

        fn close(&mut self, pool: &mut Pool<u32>) {
            self.dials += usize::from(pool.closed());
        }

        fn check(&self, pool: &Pool<u32>, limits: PoolLimits) {
            let places = self.dials + self.lent.len() + self.kept.len();
            assert_eq!(pool.places(), places);
            assert!(places <= limits.max_connections);
            assert_eq!(pool.idle(), self.kept.len());
            assert!(self.kept.len() <= limits.max_idle);
            assert_eq!(pool.waiters(), self.waiting.len());
            // Whoever waits waits for a dial, or for a call that holds a connection; never for nothing.
            let undialed = self.waiting.len().saturating_sub(self.dials);
            assert!(undialed == 0 || places == limits.max_connections);
            assert!(self.waiting.is_empty() || places > self.kept.len());
            assert!(undialed <= limits.max_waiters + limits.max_connections);
        }
    }

    proptest! {
        #[test]
        fn no_sequence_of_calls_breaks_a_bound(
            steps in steps(),
            max_connections in 1usize..5,
            max_idle in 0usize..5,
            max_waiters in 0usize..4,
        ) {
            let limits = PoolLimits { max_connections, max_idle, idle_timeout_ms: 30_000, max_waiters };
            let mut pool = Pool::new(limits);
            let mut world = World::default();
            for step in steps {
                world.step(&mut pool, limits, step);
                world.check(&pool, limits);
            }
        }
    }
}
