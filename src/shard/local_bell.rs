//! Waking a task of the same thread.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// One task waits, any code of the same thread rings. A ring while nobody waits is remembered.
#[derive(Default)]
pub(super) struct LocalBell {
    rung: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl LocalBell {
    /// Lets the waiter go on.
    pub fn ring(&self) {
        if !self.rung.replace(true)
            && let Some(waker) = self.waiter.take()
        {
            waker.wake();
        }
    }

    /// Waits for the next ring, or takes one that came before.
    pub async fn wait(&self) {
        poll_fn(|context| {
            if self.rung.replace(false) {
                return Poll::Ready(());
            }
            self.waiter.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}
