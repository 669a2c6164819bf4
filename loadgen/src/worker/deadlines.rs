//! Time limits of many waits at a time. One of the runtime's own timers takes most of a kilobyte, which is
//! more than a handshake; these take a few words, and are looked at now and then.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};

/// The waits of a thread that have the same limit, so that they end in the order in which they began.
#[derive(Debug, Default)]
pub struct Deadlines(RefCell<VecDeque<(u64, Weak<Deadline>)>>);

#[derive(Debug, Default)]
struct Deadline {
    passed: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Deadlines {
    /// Waits for `future`, or until a sweep finds `deadline_ns` in the past; then it is `None`.
    pub async fn bound<T>(
        &self,
        deadline_ns: u64,
        mut future: Pin<Box<impl Future<Output = T>>>,
    ) -> Option<T> {
        let deadline = Rc::new(Deadline::default());
        let entry = (deadline_ns, Rc::downgrade(&deadline));
        self.0.borrow_mut().push_back(entry);
        poll_fn(move |context| {
            if deadline.passed.get() {
                return Poll::Ready(None);
            }
            let polled = future.as_mut().poll(context).map(Some);
            if polled.is_pending() {
                deadline.waker.replace(Some(context.waker().clone()));
            }
            polled
        })
        .await
    }

    /// Ends the waits that are over by now.
    pub fn sweep(&self, now_ns: u64) {
        while let Some(deadline) = self.next_over(now_ns) {
            deadline.passed.set(true);
            if let Some(waker) = deadline.waker.take() {
                waker.wake();
            }
        }
    }

    /// Takes the first wait that is to end, past those that ended by themselves.
    fn next_over(&self, now_ns: u64) -> Option<Rc<Deadline>> {
        let mut waits = self.0.borrow_mut();
        while let Some((deadline_ns, deadline)) = waits.front() {
            let deadline = deadline.upgrade();
            if deadline.is_some() && *deadline_ns > now_ns {
                return None;
            }
            waits.pop_front();
            if deadline.is_some() {
                return deadline;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};
    use std::task::Context;

    #[test]
    fn a_wait_ends_with_its_future_or_at_its_deadline() {
        let deadlines = Deadlines::default();
        let mut context = Context::from_waker(Waker::noop());
        let mut quick = Box::pin(deadlines.bound(5, Box::pin(ready(7))));
        assert_eq!(quick.as_mut().poll(&mut context), Poll::Ready(Some(7)));
        drop(quick);
        let mut stuck = Box::pin(deadlines.bound(10, Box::pin(pending::<()>())));
        assert!(stuck.as_mut().poll(&mut context).is_pending());
        deadlines.sweep(9);
        assert!(stuck.as_mut().poll(&mut context).is_pending());
        assert_eq!(deadlines.0.borrow().len(), 1);
        deadlines.sweep(10);
        assert_eq!(stuck.as_mut().poll(&mut context), Poll::Ready(None));
        assert!(deadlines.0.borrow().is_empty());
    }
}
