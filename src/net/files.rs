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

/// Raises the soft limit of open files to the hard one and returns it (files per table).
pub fn raise_file_limit() -> io::Result<usize> {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, wanted)?;
    let current = getrlimit(Resource::Nofile).current;
    Ok(current.map_or(usize::MAX, |files| {
        usize::try_from(files).unwrap_or(usize::MAX)
    }))
}
