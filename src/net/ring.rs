//! The io_uring of a thread.

use std::{fmt, io};

use monoio::time::TimeDriver;
use monoio::{IoUringDriver, RuntimeBuilder};
use rustix::io::Errno;

use super::{Burst, Watch};

/// A monoio runtime on io_uring with timers. It belongs to the thread that built it.
pub type Runtime = monoio::Runtime<TimeDriver<IoUringDriver>>;

/// Submission entries; when they run out they are submitted early.
pub(super) const SUBMISSION_ENTRIES: u32 = 1024;
/// Completion entries: a burst of ready sockets beyond it goes to the kernel's slower overflow list.
pub(super) const COMPLETION_ENTRIES: u32 = 8192;

/// Submission entries of a [`Burst`], and half its completion entries.
pub(super) const BURST_ENTRIES: u32 = 64;

/// Rings of a shard: that of its runtime and those of [`Rings`].
pub const RINGS_PER_SHARD: usize = 3;
/// Memory the kernel takes for them. From Linux 6.14 on it counts as locked memory of the user (RLIMIT_MEMLOCK).
pub const RINGS_BYTES_PER_SHARD: u64 = 2 * ring_bytes(SUBMISSION_ENTRIES, COMPLETION_ENTRIES)
    + ring_bytes(BURST_ENTRIES, 2 * BURST_ENTRIES);

/// Of one ring: 64 bytes for a submission and 4 for its number, 16 for a completion, and up to a page for counters and
/// rounding.
const fn ring_bytes(submissions: u32, completions: u32) -> u64 {
    submissions as u64 * (64 + 4) + completions as u64 * 16 + 4096
}

/// What a thread has for its sockets, besides its [`Runtime`].
pub struct Rings {
    /// Waits for them.
    pub watch: Watch,
    /// Sends on them.
    pub burst: Burst,
}

impl Rings {
    /// Makes both. Must be called on a thread that runs a [`Runtime`], and with the file table the sockets will be in.
    ///
    /// # Errors
    /// The kernel or a sandbox refuses one.
    pub fn new() -> Result<Self, RingRefused> {
        Ok(Self {
            watch: Watch::new()?,
            burst: Burst::new()?,
        })
    }
}

/// The kernel or a sandbox refused to make a ring.
#[derive(Debug)]
pub struct RingRefused(pub(super) io::Error);

/// Makes the calling thread's runtime. DEFER_TASKRUN runs completions only when this thread asks for
/// them, which is also what makes a dropped wait cheap.
pub fn build_runtime() -> Result<Runtime, RingRefused> {
    let mut ring = io_uring::IoUring::builder();
    ring.setup_defer_taskrun()
        .setup_single_issuer()
        .setup_cqsize(COMPLETION_ENTRIES);
    RuntimeBuilder::<IoUringDriver>::new()
        .with_entries(SUBMISSION_ENTRIES)
        .uring_builder(ring)
        .enable_timer()
        .build()
        .map_err(RingRefused)
}

impl fmt::Display for RingRefused {
    /// The reason and the cure, for a person who has to change something.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = &self.0;
        match Errno::from_io_error(cause) {
            Some(Errno::PERM) if sysctl_forbids() => write!(
                f,
                "io_uring is switched off ({cause}); allow it with: sysctl -w kernel.io_uring_disabled=0"
            ),
            Some(Errno::PERM | Errno::ACCESS) => write!(
                f,
                "io_uring is forbidden, most likely by a container's seccomp profile ({cause}); allow \
                 io_uring_setup, io_uring_enter and io_uring_register in it (Docker: --security-opt \
                 seccomp=PROFILE)"
            ),
            Some(Errno::NOSYS) => write!(
                f,
                "this kernel or its sandbox has no io_uring ({cause}); run Linux 6.1 or newer, outside \
                 gVisor-like sandboxes"
            ),
            Some(Errno::INVAL) => write!(
                f,
                "this kernel's io_uring is too old ({cause}); Linux 6.1 or newer is needed (DEFER_TASKRUN)"
            ),
            Some(Errno::NOMEM) => write!(
                f,
                "no memory for the rings ({cause}); raise the locked-memory limit: ulimit -l unlimited, or \
                 LimitMEMLOCK=infinity in a systemd unit"
            ),
            Some(Errno::MFILE | Errno::NFILE) => write!(
                f,
                "no descriptors left for the rings ({cause}); raise the limit: ulimit -n, or LimitNOFILE= \
                 in a systemd unit"
            ),
            _ => write!(f, "io_uring was refused: {cause}"),
        }
    }
}

impl std::error::Error for RingRefused {}

/// True if kernel.io_uring_disabled keeps this process from making rings.
fn sysctl_forbids() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
        .is_ok_and(|value| value.trim() != "0")
}
