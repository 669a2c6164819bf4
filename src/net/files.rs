//! File tables and their limit.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Gives the calling thread a file table of its own, a copy of the one it shared.
///
/// RLIMIT_NOFILE counts per table, so each thread then has the whole limit for itself, and `accept`
/// no longer takes the lock all threads of a table share. Descriptors that must mean the same in
/// every thread (rings, doorbells) are opened before and never closed after; sockets are opened after.
pub fn own_file_table() -> io::Result<()> {
    // SAFETY: descriptors opened before this call exist under the same number in both tables; those
    // opened later stay in the thread that opened them, because every type that owns one here
    // (Pollable and what wraps it) is !Send.
    unsafe { unshare_unsafe(UnshareFlags::FILES) }.map_err(io::Error::from)
}

/// Raises the soft limit on open files to the hard one and returns what holds then.
///
/// A limit that cannot be raised is not an error: the plan is made with what there is.
pub fn raise_file_limit() -> u64 {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => before.maximum,
        Err(_) => before.current,
    };
    current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_raised_limit_is_the_one_in_force() {
        let files = raise_file_limit();
        assert_eq!(
            getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
            files
        );
    }
}
