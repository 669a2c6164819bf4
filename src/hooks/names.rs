//! What addresses a host's name stands for, for a while.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::clock::now_ms;
use super::url::Origin;
use crate::net::look_up;

/// How long an answer is used. Resolvers do not tell how long it holds.
const FRESH_MS: u64 = 30_000;
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// The addresses of one host.
pub struct Names {
    host: String,
    port: u16,
    state: RefCell<State>,
    ended: Notify,
}

#[derive(Default)]
struct State {
    addresses: Vec<SocketAddr>,
    looked_up_ms: Option<u64>,
    is_under_way: bool,
}

impl Names {
    /// Nothing known yet, unless the host is an address.
    pub fn new(origin: &Origin) -> Rc<Self> {
        Rc::new(Self {
            host: origin.host.clone(),
            port: origin.port,
            state: RefCell::default(),
            ended: Notify::new(),
        })
    }

    /// The addresses, the one that worked last first. One lookup serves all who ask. If it fails or takes longer
    /// than `patience`, what the last one found is used. Empty if nothing is known.
    pub async fn addresses(self: &Rc<Self>, patience: Duration) -> Vec<SocketAddr> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return vec![SocketAddr::new(address, self.port)];
        }
        if !self.is_fresh() {
            let ended = self.ended.notified();
            self.begin();
            // If it takes too long, what is known has to do.
            let _ = timeout(patience, ended).await;
        }
        self.state.borrow().addresses.clone()
    }

    /// The address worked: it is tried first from now on.
    pub fn worked(&self, address: SocketAddr) {
        let mut state = self.state.borrow_mut();
        if let Some(at) = state.addresses.iter().position(|known| *known == address) {
            state.addresses.swap(0, at);
        }
    }

    fn is_fresh(&self) -> bool {
        let looked_up_ms = self.state.borrow().looked_up_ms;
        looked_up_ms.is_some_and(|at_ms| now_ms().saturating_sub(at_ms) < FRESH_MS)
    }

    /// Looks the name up, if nobody does.
    fn begin(self: &Rc<Self>) {
        if std::mem::replace(&mut self.state.borrow_mut().is_under_way, true) {
            return;
        }
        let names = Rc::clone(self);
        // A task of its own: it goes on when the call that wanted it gives up.
        spawn_local(async move {
            let found = look_up(&names.host, names.port).await.unwrap_or_default();
            names.end(found);
        });
    }

    fn end(&self, mut found: Vec<SocketAddr>) {
        found.truncate(MAX_ADDRESSES);
        let mut state = self.state.borrow_mut();
        state.is_under_way = false;
        if !found.is_empty() {
            state.addresses = found;
            state.looked_up_ms = Some(now_ms());
        }
        drop(state);
        self.ended.notify_waiters();
    }
}
