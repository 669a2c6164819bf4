//! What a host says of itself: plain values, read once from its files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::cgroup;

/// Capabilities by their number (capabilities(7)).
const CAP_NET_ADMIN: u32 = 12;
const CAP_IPC_LOCK: u32 = 14;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYS_RESOURCE: u32 = 24;

/// Where a host's `/proc` and `/sys` are: `/`, or a folder that holds copies of them.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

impl Root {
    /// The host whose files are below `path`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Whether it is the host this process runs on.
    pub fn is_this_host(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// The content of the file at `path`, which has no slash in front.
    ///
    /// # Errors
    /// The file cannot be read; the error names it.
    pub fn text(&self, path: impl AsRef<Path>) -> io::Result<String> {
        let path = self.0.join(path);
        fs::read_to_string(&path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }

    /// The number a file consists of. `None` for words such as `max`, and for no file.
    pub fn number(&self, path: impl AsRef<Path>) -> Option<u64> {
        self.text(path).ok()?.trim().parse().ok()
    }

    /// The numbers or words of a sysctl; none where the host does not show it.
    fn sysctl_words(&self, name: &str) -> Vec<String> {
        let text = self.text(sysctl_path(name)).unwrap_or_default();
        text.split_ascii_whitespace().map(str::to_owned).collect()
    }

    fn sysctl(&self, name: &str) -> Option<u64> {
        self.number(sysctl_path(name))
    }

    fn sysctl_pair(&self, name: &str) -> Option<(u64, u64)> {
        match self.sysctl_words(name).as_slice() {
            [first, second] => Some((first.parse().ok()?, second.parse().ok()?)),
            _ => None,
        }
    }
}

fn sysctl_path(name: &str) -> PathBuf {
    Path::new("proc/sys").join(name.replace('.', "/"))
}

/// A limit of a process (RLIMIT). `u64::MAX` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessLimit {
    /// In force.
    pub soft: u64,
    /// The highest the process may raise it to by itself.
    pub hard: u64,
}

/// What this process may do that an ordinary one may not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Privileges(u64);

impl Privileges {
    /// May set any congestion control.
    pub fn net_admin(self) -> bool {
        self.0 >> CAP_NET_ADMIN & 1 == 1
    }

    /// Memory it locks is not counted.
    pub fn ipc_lock(self) -> bool {
        self.0 >> CAP_IPC_LOCK & 1 == 1
    }

    /// `fs.file-max` does not hold for it.
    pub fn sys_admin(self) -> bool {
        self.0 >> CAP_SYS_ADMIN & 1 == 1
    }

    /// May raise its hard limits.
    pub fn sys_resource(self) -> bool {
        self.0 >> CAP_SYS_RESOURCE & 1 == 1
    }
}

/// The table of tracked connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conntrack {
    /// Most connections it holds.
    pub max: u64,
    /// Connections it holds now.
    pub count: u64,
}

/// Values of a host. `None` where it does not have or show one: a container sees only some of its host's.
#[derive(Clone, Debug)]
pub struct Host {
    /// Of the kernel: `6.18.44-fc-v445`.
    pub release: String,
    /// RLIMIT_NOFILE, files.
    pub files: ProcessLimit,
    /// RLIMIT_MEMLOCK, bytes.
    pub locked_memory: ProcessLimit,
    /// What this process may do.
    pub privileges: Privileges,
    /// `fs.nr_open`.
    pub nr_open: Option<u64>,
    /// `fs.file-max`.
    pub file_max: Option<u64>,
    /// Open files of the whole machine, of `fs.file-nr`.
    pub open_files: Option<u64>,
    /// Memory that can be had without swapping, bytes.
    pub memory_available_bytes: u64,
    /// Swap space, bytes.
    pub swap_bytes: u64,
    /// The `[always]` of `transparent_hugepage/enabled`.
    pub huge_pages: Option<String>,
    /// Limits of the control groups.
    pub cgroup: cgroup::Limits,
    /// `net.core.somaxconn`.
    pub somaxconn: Option<u64>,
    /// `net.ipv4.tcp_syncookies`.
    pub syncookies: Option<u64>,
    /// `net.ipv4.tcp_max_syn_backlog`.
    pub max_syn_backlog: Option<u64>,
    /// `net.ipv4.tcp_mem`, pages.
    pub tcp_mem: Option<[u64; 3]>,
    /// Of netfilter, if it is loaded.
    pub conntrack: Option<Conntrack>,
    /// `net.ipv4.tcp_congestion_control`.
    pub congestion_control: Option<String>,
    /// `net.ipv4.tcp_available_congestion_control`.
    pub available_congestion_controls: Vec<String>,
    /// `net.ipv4.tcp_allowed_congestion_control`: what any process may choose.
    pub allowed_congestion_controls: Vec<String>,
    /// `net.ipv4.ip_local_port_range`.
    pub port_range: Option<(u64, u64)>,
    /// `kernel.io_uring_disabled`.
    pub io_uring_disabled: Option<u64>,
}

impl Host {
    /// Reads the files below `root`.
    ///
    /// # Errors
    /// A file that every Linux has cannot be read or understood; the error names it.
    pub fn read(root: &Root) -> io::Result<Self> {
        let limits = root.text("proc/self/limits")?;
        let meminfo = root.text("proc/meminfo")?;
        let status = root.text("proc/self/status")?;
        Ok(Self {
            release: root.text("proc/sys/kernel/osrelease")?.trim().to_owned(),
            files: process_limit(&limits, "Max open files")?,
            locked_memory: process_limit(&limits, "Max locked memory")?,
            privileges: Privileges(privileges(&status)?),
            nr_open: root.sysctl("fs.nr_open"),
            file_max: root.sysctl("fs.file-max"),
            open_files: root
                .sysctl_words("fs.file-nr")
                .first()
                .and_then(|first| first.parse().ok()),
            memory_available_bytes: meminfo_bytes(&meminfo, "MemAvailable")?,
            swap_bytes: meminfo_bytes(&meminfo, "SwapTotal")?,
            huge_pages: huge_pages(root),
            cgroup: cgroup::Limits::read(root),
            somaxconn: root.sysctl("net.core.somaxconn"),
            syncookies: root.sysctl("net.ipv4.tcp_syncookies"),
            max_syn_backlog: root.sysctl("net.ipv4.tcp_max_syn_backlog"),
            tcp_mem: tcp_mem(root),
            conntrack: conntrack(root),
            congestion_control: root.sysctl_words("net.ipv4.tcp_congestion_control").pop(),
            available_congestion_controls: root
                .sysctl_words("net.ipv4.tcp_available_congestion_control"),
            allowed_congestion_controls: root
                .sysctl_words("net.ipv4.tcp_allowed_congestion_control"),
            port_range: root.sysctl_pair("net.ipv4.ip_local_port_range"),
            io_uring_disabled: root.sysctl("kernel.io_uring_disabled"),
        })
    }

    /// Files in one table as the server will have it: it raises its soft limit to the hard one, which the kernel
    /// refuses where the hard one is above `fs.nr_open`.
    pub fn files_per_table(&self) -> u64 {
        match self.nr_open {
            Some(nr_open) if self.files.hard > nr_open => self.files.soft.min(nr_open),
            _ => self.files.hard,
        }
    }

    /// How a process limit is raised: a line of the unit, or a command of the shell that starts the server.
    pub fn raise_limit(&self, unit_line: &str, command: &str) -> String {
        let cure = format!("{unit_line} in its unit, or {command} before it starts: tuning/host/");
        match self.privileges.sys_resource() {
            true => cure,
            false => format!("{cure}; this process may not, for want of CAP_SYS_RESOURCE"),
        }
    }

    /// Major and minor number of the kernel.
    pub fn kernel_version(&self) -> Option<(u32, u32)> {
        let mut numbers = self.release.split(|c: char| !c.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }
}

fn unreadable(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{what}: not to be understood"),
    )
}

/// A row of `/proc/self/limits`: the name, the soft limit, the hard one.
fn process_limit(limits: &str, name: &str) -> io::Result<ProcessLimit> {
    let value = |word: &str| match word {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    };
    let row = limits.lines().find_map(|line| line.strip_prefix(name));
    let mut words = row.unwrap_or_default().split_ascii_whitespace().map(value);
    match (words.next().flatten(), words.next().flatten()) {
        (Some(soft), Some(hard)) => Ok(ProcessLimit { soft, hard }),
        _ => Err(unreadable(&format!("{name} in /proc/self/limits"))),
    }
}

fn privileges(status: &str) -> io::Result<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .ok_or_else(|| unreadable("CapEff in /proc/self/status"))
}

fn meminfo_bytes(meminfo: &str, name: &str) -> io::Result<u64> {
    let row = meminfo
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = row.and_then(|row| row.split_ascii_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024)
        .ok_or_else(|| unreadable(&format!("{name} in /proc/meminfo")))
}

fn huge_pages(root: &Root) -> Option<String> {
    let modes = root
        .text("sys/kernel/mm/transparent_hugepage/enabled")
        .ok()?;
    let chosen = modes.split_once('[')?.1.split_once(']')?.0;
    Some(chosen.to_owned())
}

fn tcp_mem(root: &Root) -> Option<[u64; 3]> {
    let words = root.sysctl_words("net.ipv4.tcp_mem");
    let pages: Vec<u64> = words.iter().filter_map(|word| word.parse().ok()).collect();
    pages.try_into().ok()
}

fn conntrack(root: &Root) -> Option<Conntrack> {
    Some(Conntrack {
        max: root.sysctl("net.netfilter.nf_conntrack_max")?,
        count: root.sysctl("net.netfilter.nf_conntrack_count")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_with_and_without_a_number() {
        let text = "Limit    Soft Limit  Hard Limit  Units\n\
                    Max open files     1024      unlimited    files\n\
                    Max file locks     unlimited   unlimited   locks\n";
        let files = process_limit(text, "Max open files").unwrap();
        assert_eq!((files.soft, files.hard), (1024, u64::MAX));
        assert!(process_limit(text, "Max locked memory").is_err());
    }

    #[test]
    fn this_host_can_be_read() {
        let host = Host::read(&Root::at("/")).unwrap();
        assert!(
            host.kernel_version()
                .is_some_and(|version| version >= (6, 1))
        );
        assert!(host.memory_available_bytes > 0);
    }

    #[test]
    fn privileges_are_bits() {
        let privileges = Privileges(privileges("CapEff:\t0000000000204000\n").unwrap());
        assert!(privileges.ipc_lock() && privileges.sys_admin() && !privileges.net_admin());
    }
}
