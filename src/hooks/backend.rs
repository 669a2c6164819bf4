//! The connections to one scheme, host and port: does what its [`Pool`] decides.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::spawn_local;

use super::call::Unavailable;
use super::clock::now_ms;
use super::connection::{Connection, Dialer};
use super::metrics::BackendMetrics;
use super::pool::{Given, Pool, PoolLimits, Take, Waiter};

type Loan = Result<Connection, Unavailable>;

/// The connections to one scheme, host and port.
pub struct Backend {
    dialer: Dialer,
    state: RefCell<State>,
    metrics: Arc<BackendMetrics>,
}

struct State {
    pool: Pool<Connection>,
    waiting: HashMap<Waiter, oneshot::Sender<Loan>>,
    last_waiter: Waiter,
}

impl Backend {
    /// No connections yet.
    pub fn new(dialer: Dialer, limits: PoolLimits, metrics: Arc<BackendMetrics>) -> Rc<Self> {
        let state = RefCell::new(State {
            pool: Pool::new(limits),
            waiting: HashMap::new(),
            last_waiter: 0,
        });
        Rc::new(Self {
            dialer,
            state,
            metrics,
        })
    }

    /// A connection, now or when there is one. Dropping the wait leaves the queue.
    pub async fn borrow(self: &Rc<Self>) -> Loan {
        let mut dead = Vec::new();
        let (waiter, taken) = {
            let mut state = self.state.borrow_mut();
            state.last_waiter += 1;
            let waiter = state.last_waiter;
            let is_alive = Connection::is_alive;
            (
                waiter,
                state.pool.take(waiter, now_ms(), is_alive, &mut dead),
            )
        };
        drop(dead);
        match taken {
            Take::Idle(connection) => return Ok(connection),
            Take::Full => return Err(Unavailable::Busy),
            Take::Wait => {}
            Take::Dial => self.dial(),
        }
        self.wait(waiter).await
    }

    async fn wait(self: &Rc<Self>, waiter: Waiter) -> Loan {
        let (sender, answer) = oneshot::channel();
        self.state.borrow_mut().waiting.insert(waiter, sender);
        self.show();
        let mut wait = Wait {
            backend: self,
            waiter,
            answer,
        };
        (&mut wait.answer)
            .await
            .unwrap_or(Err(Unavailable::Connect))
    }

    /// A connection that can serve another call.
    pub fn give_back(&self, connection: Connection) {
        let given = self.state.borrow_mut().pool.give_back(connection, now_ms());
        self.hand_on(given);
    }

    /// Closes the idle connections: one like them was found closed.
    pub fn purge(&self) {
        drop(self.state.borrow_mut().pool.purge());
        self.show();
    }

    /// Closes what has been idle for too long.
    pub fn sweep(&self) {
        let mut dead = Vec::new();
        let mut state = self.state.borrow_mut();
        state.pool.sweep(now_ms(), Connection::is_alive, &mut dead);
        drop(state);
        drop(dead);
        self.show();
    }

    fn dial(self: &Rc<Self>) {
        self.metrics.dials.add(1);
        let backend = Rc::clone(self);
        spawn_local(async move {
            let place = Rc::new(Place {
                backend: Rc::clone(&backend),
                is_dialed: Cell::new(false),
            });
            match backend.dialer.dial(Rc::clone(&place)).await {
                Ok(connection) => {
                    place.is_dialed.set(true);
                    backend.dialed(connection);
                }
                Err(reason) => backend.dial_failed(reason),
            }
        });
    }

    fn dialed(&self, connection: Connection) {
        let given = self.state.borrow_mut().pool.dialed(connection, now_ms());
        self.hand_on(given);
    }

    fn dial_failed(self: &Rc<Self>, reason: Unavailable) {
        self.metrics.dial_failures.add(1);
        let mut state = self.state.borrow_mut();
        let outcome = state.pool.dial_failed();
        let failed = outcome
            .failed
            .and_then(|waiter| state.waiting.remove(&waiter));
        drop(state);
        if let Some(sender) = failed {
            // It has given up in the meantime.
            let _ = sender.send(Err(reason));
        }
        if outcome.dials_again {
            self.dial();
        }
        self.show();
    }

    fn hand_on(&self, given: Given<Connection>) {
        if let Given::To(waiter, connection) = given {
            let sender = self.state.borrow_mut().waiting.remove(&waiter);
            if let Some(sender) = sender {
                // Who waits takes itself off the queue before it goes.
                let _ = sender.send(Ok(connection));
            }
        }
        self.show();
    }

    fn closed(self: &Rc<Self>) {
        let dials = self.state.borrow_mut().pool.closed();
        if dials {
            self.dial();
        }
        self.show();
    }

    fn show(&self) {
        let pool = &self.state.borrow().pool;
        self.metrics.connections.set(pool.places() as u64);
        self.metrics.idle.set(pool.idle() as u64);
        self.metrics.waiters.set(pool.waiters() as u64);
    }
}

/// A connection's place in the pool. Dropped with the connection's task, it is free again.
struct Place {
    backend: Rc<Backend>,
    /// Until it is, the pool counts a dial.
    is_dialed: Cell<bool>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_dialed.get() {
            self.backend.closed();
        }
    }
}

/// A call in the queue.
struct Wait<'a> {
    backend: &'a Rc<Backend>,
    waiter: Waiter,
    answer: oneshot::Receiver<Loan>,
}

impl Drop for Wait<'_> {
    /// A call whose time is over leaves the queue; a connection that came at that very moment goes to another.
    fn drop(&mut self) {
        let mut state = self.backend.state.borrow_mut();
        state.waiting.remove(&self.waiter);
        let has_waited = state.pool.cancel(self.waiter);
        drop(state);
        if let Ok(Ok(connection)) = self.answer.try_recv() {
            self.backend.give_back(connection);
        }
        if has_waited {
            self.backend.show();
        }
    }
}
