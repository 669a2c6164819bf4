//! `longwire doctor` from outside: on made-up hosts whose files lie in a folder, where each value is made bad and good
//! again, and on this host, with real limits and, in a network namespace, real settings.
//!
//! The tests on this host run as root; the namespace needs ip(8), the privileges setpriv(1).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use longwire::doctor::CONNECTION_BYTES;

const LIMITS: &str = "proc/self/limits";
const MEMINFO: &str = "proc/meminfo";
const STATUS: &str = "proc/self/status";
const SOMAXCONN: &str = "proc/sys/net/core/somaxconn";
const SYNCOOKIES: &str = "proc/sys/net/ipv4/tcp_syncookies";
const SYN_BACKLOG: &str = "proc/sys/net/ipv4/tcp_max_syn_backlog";
const CONGESTION_AVAILABLE: &str = "proc/sys/net/ipv4/tcp_available_congestion_control";
const CONGESTION_ALLOWED: &str = "proc/sys/net/ipv4/tcp_allowed_congestion_control";
const FILE_MAX: &str = "proc/sys/fs/file-max";
const NR_OPEN: &str = "proc/sys/fs/nr_open";
const RELEASE: &str = "proc/sys/kernel/osrelease";
const IO_URING_DISABLED: &str = "proc/sys/kernel/io_uring_disabled";
const TCP_MEM: &str = "proc/sys/net/ipv4/tcp_mem";
const CONNTRACK_MAX: &str = "proc/sys/net/netfilter/nf_conntrack_max";
const CONNTRACK_COUNT: &str = "proc/sys/net/netfilter/nf_conntrack_count";
const CGROUP: &str = "proc/self/cgroup";

/// One shard is never more than there are cores, so that what is expected is the same on every machine.
const A_MILLION: &[&str] = &["--connections", "1000000", "--shards", "1"];

/// A host on which nothing stands in the way of a million connections.
fn good_host() -> BTreeMap<&'static str, String> {
    let files = [
        (LIMITS, &*limits(1_048_576, 1_048_576, "unlimited")),
        (MEMINFO, &meminfo(16_000_000, 0)),
        (STATUS, "Name:\tlongwire\nCapEff:\t0000000000000000\n"),
        (CGROUP, "0::/service\n"),
        (RELEASE, "6.12.9-amd64\n"),
        (IO_URING_DISABLED, "0\n"),
        (NR_OPEN, "1048576\n"),
        (FILE_MAX, "2000000\n"),
        ("proc/sys/fs/file-nr", "1000\t0\t2000000\n"),
        (SOMAXCONN, "4096\n"),
        (SYNCOOKIES, "1\n"),
        (SYN_BACKLOG, "2048\n"),
        (TCP_MEM, "1500000\t2000000\t3000000\n"),
        ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
        ("proc/sys/net/ipv4/tcp_congestion_control", "cubic\n"),
        (CONGESTION_AVAILABLE, "reno cubic bbr\n"),
        (CONGESTION_ALLOWED, "reno cubic\n"),
        (
            "sys/kernel/mm/transparent_hugepage/enabled",
            "always [madvise] never\n",
        ),
    ];
    files
        .map(|(path, content)| (path, content.to_owned()))
        .into()
}

fn limits(soft: u64, hard: u64, locked_memory: &str) -> String {
    format!(
        "Limit                     Soft Limit           Hard Limit           Units\n\
         Max open files            {soft}               {hard}               files\n\
         Max locked memory         {locked_memory}      {locked_memory}      bytes\n"
    )
}

fn meminfo(available_kib: u64, swap_kib: u64) -> String {
    format!("MemTotal: 32000000 kB\nMemAvailable: {available_kib} kB\nSwapTotal: {swap_kib} kB\n")
}

/// What doctor said.
#[derive(Debug)]
struct Said {
    status: i32,
    text: String,
    error: String,
}

impl Said {
    fn new(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self {
            status: output.status.code().unwrap(),
            text: text(output.stdout),
            error: text(output.stderr),
        }
    }

    /// The level of a finding.
    fn level(&self, name: &str) -> &str {
        self.row(name).split_whitespace().next().unwrap()
    }

    /// The first line of a finding.
    fn row(&self, name: &str) -> &str {
        let is_row =
            |line: &&str| line.split_whitespace().nth(1) == Some(name) && !line.starts_with(' ');
        let row = self.text.lines().find(is_row);
        row.unwrap_or_else(|| panic!("no {name} in {self:#?}"))
    }

    /// The lines below that: why, and what changes it.
    fn details(&self, name: &str) -> Vec<&str> {
        let mut lines = self.text.lines().skip_while(|line| *line != self.row(name));
        lines.next();
        lines
            .take_while(|line| line.starts_with(' '))
            .map(str::trim)
            .collect()
    }

    fn cure(&self, name: &str) -> &str {
        let cures: Vec<&str> = self
            .details(name)
            .into_iter()
            .filter_map(|line| line.strip_prefix("-> "))
            .collect();
        assert_eq!(cures.len(), 1, "{name}: {self:#?}");
        cures[0]
    }

    fn verdict(&self) -> &str {
        self.text.lines().last().unwrap_or_default()
    }

    /// Names of all findings that are not ok.
    fn complaints(&self) -> Vec<&str> {
        let rows = self
            .text
            .lines()
            .filter(|line| line.starts_with("note ") || line.starts_with("change "));
        rows.map(|row| row.split_whitespace().nth(1).unwrap())
            .collect()
    }
}

/// The program, without the environment's own settings.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("LONGWIRE_") {
            command.env_remove(key);
        }
    }
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command.stdin(Stdio::null());
    command
}

fn binary() -> String {
    std::env::var("LONGWIRE_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_longwire").to_owned())
}

/// On this host.
fn doctor(args: &[&str]) -> Said {
    Said::new(
        command(&binary())
            .arg("doctor")
            .args(args)
            .output()
            .unwrap(),
    )
}

/// On this host, started by a shell after `before`.
fn doctor_after(before: &str, args: &[&str]) -> Said {
    let script = format!("{before} \"$0\" doctor \"$@\"");
    let output = command("sh")
        .args(["-c", &script, &binary()])
        .args(args)
        .output();
    Said::new(output.unwrap())
}

/// On a host made of these files. Each test has a folder of its own.
fn doctor_on(test: &str, files: &BTreeMap<&str, String>, args: &[&str]) -> Said {
    let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("doctor-{test}"));
    let _ = fs::remove_dir_all(&root);
    for (path, content) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let said = doctor(&[&["--root", root.to_str().unwrap()], args].concat());
    fs::remove_dir_all(&root).unwrap();
    said
}

/// A finding, values of files that make it bad, and values that make it good.
struct Case {
    name: &'static str,
    level: &'static str,
    args: &'static [&'static str],
    bad: &'static [(&'static str, &'static str)],
    good: &'static [(&'static str, &'static str)],
}

const CASES: &[Case] = &[
    Case {
        name: "kernel",
        level: "change",
        args: &[],
        bad: &[(RELEASE, "6.0.19\n")],
        good: &[(RELEASE, "6.1.0-rc1\n")],
    },
    Case {
        name: "kernel.io_uring_disabled",
        level: "change",
        args: &[],
        bad: &[(IO_URING_DISABLED, "2\n")],
        good: &[],
    },
    Case {
        name: "kernel.io_uring_disabled",
        level: "note",
        args: &[],
        bad: &[(IO_URING_DISABLED, "1\n")],
        good: &[],
    },
    Case {
        name: "pids.max",
        level: "change",
        args: &[],
        bad: &[
            ("sys/fs/cgroup/service/pids.max", "10\n"),
            ("sys/fs/cgroup/service/pids.current", "7\n"),
        ],
        good: &[
            ("sys/fs/cgroup/service/pids.max", "10\n"),
            ("sys/fs/cgroup/service/pids.current", "6\n"),
        ],
    },
    Case {
        name: "pids.max",
        level: "change",
        args: &[],
        bad: &[
            (CGROUP, "4:cpu,pids:/job\n"),
            ("sys/fs/cgroup/pids/pids.max", "3\n"),
        ],
        good: &[
            (CGROUP, "4:cpu,pids:/job\n"),
            ("sys/fs/cgroup/pids/pids.max", "4\n"),
        ],
    },
    Case {
        name: "fs.file-max",
        level: "change",
        args: &[],
        // A million, 1000 open ones, 76 kept back and one listener.
        bad: &[(FILE_MAX, "1001076\n")],
        good: &[(FILE_MAX, "1001077\n")],
    },
    Case {
        name: "fs.file-max",
        level: "note",
        args: &[],
        bad: &[
            (FILE_MAX, "1001076\n"),
            (STATUS, "CapEff:\t0000000000200000\n"),
        ],
        good: &[(FILE_MAX, "1001077\n")],
    },
    Case {
        name: "MemAvailable",
        level: "change",
        args: &[],
        // 4020 MB are 3925781.25 KiB.
        bad: &[(MEMINFO, "MemAvailable: 3925781 kB\nSwapTotal: 0 kB\n")],
        good: &[(MEMINFO, "MemAvailable: 3925782 kB\nSwapTotal: 0 kB\n")],
    },
    Case {
        name: "memory.max",
        level: "change",
        args: &[],
        // 4020 MB are 85 % of it.
        bad: &[("sys/fs/cgroup/service/memory.max", "4729411764\n")],
        good: &[("sys/fs/cgroup/service/memory.max", "4729411765\n")],
    },
    Case {
        name: "memory.max",
        level: "change",
        args: &[],
        bad: &[
            ("sys/fs/cgroup/service/memory.max", "max\n"),
            ("sys/fs/cgroup/memory.max", "4000000000\n"),
        ],
        good: &[
            ("sys/fs/cgroup/service/memory.max", "max\n"),
            ("sys/fs/cgroup/memory.max", "6000000000\n"),
        ],
    },
    Case {
        name: "memory.high",
        level: "change",
        args: &[],
        bad: &[("sys/fs/cgroup/service/memory.high", "4019999999\n")],
        good: &[("sys/fs/cgroup/service/memory.high", "4020000000\n")],
    },
    Case {
        name: "memory.limit_in_bytes",
        level: "change",
        args: &[],
        bad: &[
            (CGROUP, "4:memory:/job/own\n0::/\n"),
            (
                "sys/fs/cgroup/memory/job/memory.limit_in_bytes",
                "4019999999\n",
            ),
        ],
        good: &[
            (CGROUP, "4:memory:/job/own\n0::/\n"),
            (
                "sys/fs/cgroup/memory/job/memory.limit_in_bytes",
                "4020000000\n",
            ),
        ],
    },
    Case {
        name: "swap",
        level: "note",
        args: &[],
        bad: &[(MEMINFO, "MemAvailable: 16000000 kB\nSwapTotal: 1000 kB\n")],
        good: &[
            (MEMINFO, "MemAvailable: 16000000 kB\nSwapTotal: 1000 kB\n"),
            ("sys/fs/cgroup/service/memory.swap.max", "0\n"),
        ],
    },
    Case {
        name: "net.core.somaxconn",
        level: "note",
        args: &[],
        bad: &[(SOMAXCONN, "4095\n")],
        good: &[],
    },
    Case {
        name: "net.core.somaxconn",
        level: "note",
        args: &["--set", "tcp.backlog=8000"],
        bad: &[],
        good: &[(SOMAXCONN, "8000\n")],
    },
    Case {
        name: "net.ipv4.tcp_syncookies",
        level: "note",
        args: &[],
        bad: &[(SYNCOOKIES, "0\n"), (SYN_BACKLOG, "10000\n")],
        good: &[(SYNCOOKIES, "2\n"), (SYN_BACKLOG, "1\n")],
    },
    Case {
        name: "net.ipv4.tcp_mem",
        level: "note",
        args: &[],
        bad: &[(TCP_MEM, "1 999999 3000000\n")],
        good: &[(TCP_MEM, "1 1000000 3000000\n")],
    },
    Case {
        name: "net.netfilter.nf_conntrack_max",
        level: "change",
        args: &[],
        bad: &[(CONNTRACK_MAX, "262144\n"), (CONNTRACK_COUNT, "5\n")],
        good: &[(CONNTRACK_MAX, "1000000\n"), (CONNTRACK_COUNT, "5\n")],
    },
    Case {
        name: "net.netfilter.nf_conntrack_max",
        level: "note",
        args: &[],
        bad: &[(CONNTRACK_MAX, "262144\n"), (CONNTRACK_COUNT, "0\n")],
        good: &[(CONNTRACK_MAX, "1000000\n"), (CONNTRACK_COUNT, "0\n")],
    },
    Case {
        name: "tcp.congestion_control",
        level: "change",
        args: &["--set", "tcp.congestion_control=vegas"],
        bad: &[],
        good: &[
            (CONGESTION_AVAILABLE, "reno vegas\n"),
            (CONGESTION_ALLOWED, "reno vegas\n"),
        ],
    },
    Case {
        name: "tcp.congestion_control",
        level: "change",
        args: &["--set", "tcp.congestion_control=bbr"],
        bad: &[],
        good: &[(CONGESTION_ALLOWED, "reno cubic bbr\n")],
    },
    Case {
        name: "tcp.congestion_control",
        level: "note",
        args: &["--set", "tcp.congestion_control=bbr"],
        bad: &[(STATUS, "CapEff:\t0000000000001000\n")],
        good: &[(CONGESTION_ALLOWED, "reno cubic bbr\n")],
    },
    Case {
        name: "admission.memory_bytes",
        level: "change",
        args: &[
            "--set=admission.memory_bytes=150000000",
            "--set=admission.memory_refuse_percent=80",
        ],
        // 124 MB are 82.7 % of it.
        bad: &[],
        good: &[],
    },
];

fn with(changes: &[(&'static str, &str)]) -> BTreeMap<&'static str, String> {
    let mut files = good_host();
    files.extend(
        changes
            .iter()
            .map(|(path, content)| (*path, (*content).to_owned())),
    );
    files
}

#[test]
fn a_good_host_is_ready_and_nothing_is_noted() {
    let said = doctor_on("good", &good_host(), A_MILLION);
    assert_eq!(said.verdict(), "1000000 connections: ready", "{said:#?}");
    assert_eq!(said.status, 0);
    assert!(said.complaints().is_empty());
    assert!(!said.text.contains("->"), "{said:#?}");
}

#[test]
fn each_value_is_noticed_when_it_is_bad_and_only_then() {
    for (index, case) in CASES.iter().enumerate() {
        let args = [A_MILLION, case.args].concat();
        let said = doctor_on("case", &with(case.bad), &args);
        assert_eq!(said.level(case.name), case.level, "case {index}: {said:#?}");
        assert_eq!(said.complaints(), [case.name], "case {index}: {said:#?}");
        let (status, verdict) = match case.level {
            "change" => (1, "1000000 connections: 1 thing to change"),
            _ => (0, "1000000 connections: ready, 1 note"),
        };
        assert_eq!(
            (said.status, said.verdict()),
            (status, verdict),
            "case {index}"
        );
        assert!(!said.cure(case.name).is_empty());
        if case.name == "admission.memory_bytes" {
            continue;
        }
        let said = doctor_on("case", &with(case.good), &args);
        assert_eq!(said.level(case.name), "ok", "case {index}: {said:#?}");
        assert_eq!(
            (said.status, said.complaints().len()),
            (0, 0),
            "case {index}: {said:#?}"
        );
    }
}

#[test]
fn a_bound_on_memory_from_the_configuration_counts_the_program_only() {
    let percent = "--set=admission.memory_refuse_percent=80";
    for (bytes, level) in [(154_999_999, "change"), (155_000_000, "ok")] {
        let bound = format!("--set=admission.memory_bytes={bytes}");
        let said = doctor_on(
            "bound",
            &good_host(),
            &[A_MILLION, &[&bound, percent]].concat(),
        );
        assert_eq!(said.level("admission.memory_bytes"), level, "{said:#?}");
        // The group's limit is then the kernel's affair alone.
        assert!(
            said.row("memory.max").ends_with("wanted at least 4.0 GB"),
            "{said:#?}"
        );
    }
}

#[test]
fn the_file_limit_is_held_against_the_plan() {
    let host = with(&[(LIMITS, &limits(20_000, 20_000, "unlimited"))]);
    // Two shards hold 38,430 connections with tables of 20,000.
    for (connections, level, status) in [("38430", "ok", 0), ("38431", "change", 1)] {
        let said = doctor_on(
            "files",
            &host,
            &["--connections", connections, "--shards", "2"],
        );
        assert_eq!(said.level("RLIMIT_NOFILE"), level, "{said:#?}");
        assert_eq!(said.status, status);
    }
    let said = doctor_on(
        "files",
        &host,
        &["--connections", "1000000", "--shards", "2"],
    );
    assert!(
        said.details("RLIMIT_NOFILE")[0].contains("2 shards x (19921 - 5 sqrt(19921)) = 38430"),
        "{said:#?}"
    );
    assert!(
        said.cure("RLIMIT_NOFILE")
            .contains("LimitNOFILE=1048576 in its unit, or ulimit -Hn 1048576")
    );
    let said = doctor_on(
        "files",
        &host,
        &["--connections", "100000000", "--shards", "2"],
    );
    let wanted = said.row("RLIMIT_NOFILE").rsplit(' ').next().unwrap();
    assert!(
        said.cure("RLIMIT_NOFILE")
            .contains(&format!("LimitNOFILE={wanted} in its unit")),
        "{said:#?}"
    );
}

#[test]
fn more_shards_than_cores_are_noted_with_the_file_limit_that_spares_them() {
    let tables = with(&[(LIMITS, &limits(2_000, 2_000, "unlimited"))]);
    let cores = std::thread::available_parallelism().unwrap().get();
    // Tables of 2,000 hold fewer than that.
    let connections = (cores * 2_000).to_string();
    let said = doctor_on("shards", &tables, &["--connections", &connections]);
    assert_eq!(said.level("RLIMIT_NOFILE"), "ok", "{said:#?}");
    assert_eq!(said.level("shards"), "note", "{said:#?}");
    assert!(
        said.row("shards").contains(&format!(" on {cores} core")),
        "{said:#?}"
    );
    assert!(
        said.cure("shards").contains("ulimit -Hn 1048576"),
        "{said:#?}"
    );
    assert_eq!(said.status, 0);
    let said = doctor_on(
        "shards",
        &tables,
        &["--connections", "100", "--shards", "1"],
    );
    assert_eq!(said.level("shards"), "ok");
}

#[test]
fn a_limit_above_nr_open_cannot_be_raised_to() {
    // So the soft limit stays: too little for a million, enough for 500.
    let host = with(&[(LIMITS, &limits(1_024, 1_048_577, "unlimited"))]);
    let said = doctor_on("nr_open", &host, A_MILLION);
    assert_eq!(
        said.complaints(),
        ["RLIMIT_NOFILE", "fs.nr_open"],
        "{said:#?}"
    );
    assert_eq!((said.level("fs.nr_open"), said.status), ("change", 1));
    assert_eq!(said.verdict(), "1000000 connections: 2 things to change");
    assert_eq!(said.cure("fs.nr_open"), "sysctl -w fs.nr_open=1073741816");
    let said = doctor_on("nr_open", &host, &["--connections", "500", "--shards", "1"]);
    assert_eq!(
        (said.level("fs.nr_open"), said.status),
        ("note", 0),
        "{said:#?}"
    );
}

#[test]
fn without_a_number_the_plan_gives_it() {
    let host = with(&[(LIMITS, &limits(20_000, 20_000, "unlimited"))]);
    let said = doctor_on("plan", &host, &["--shards", "2"]);
    assert_eq!(said.verdict(), "38430 connections: ready", "{said:#?}");
    let said = doctor_on(
        "plan",
        &host,
        &["--shards", "2", "--max-connections", "500"],
    );
    assert_eq!(said.verdict(), "500 connections: ready", "{said:#?}");
    let config = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("doctor.toml");
    fs::write(&config, "shards = 1\nmax_connections = 700\n").unwrap();
    let said = doctor_on("plan", &host, &["--config", config.to_str().unwrap()]);
    assert_eq!(said.verdict(), "700 connections: ready", "{said:#?}");
    let said = doctor_on(
        "plan",
        &with(&[(LIMITS, &limits(60, 60, "unlimited"))]),
        &[],
    );
    assert_eq!(
        (said.level("RLIMIT_NOFILE"), said.status),
        ("change", 1),
        "{said:#?}"
    );
}

#[test]
fn locked_memory_matters_where_rings_are_charged_to_it() {
    // Two rings of 200 KiB, and that of bursts.
    let needed = 2 * 200 * 1024 + 10_496;
    for (locked, release, privileges, level) in [
        (needed - 1, "6.14.0\n", "CapEff:\t0\n", "change"),
        (needed - 1, "6.13.0\n", "CapEff:\t0\n", "note"),
        (needed - 1, "6.14.0\n", "CapEff:\t4000\n", "note"),
        (needed, "6.14.0\n", "CapEff:\t0\n", "ok"),
    ] {
        let host = with(&[
            (LIMITS, &limits(1_048_576, 1_048_576, &locked.to_string())),
            (RELEASE, release),
            (STATUS, privileges),
        ]);
        let said = doctor_on("locked", &host, A_MILLION);
        assert_eq!(said.level("RLIMIT_MEMLOCK"), level, "{said:#?}");
    }
}

#[test]
fn half_open_connections_are_bounded_only_without_syn_cookies() {
    // Three quarters of 5462 are 4097, of 5461 they are 4096, of 5460 they are 4095.
    for (cookies, backlog, level) in [("0", "5460", "note"), ("0", "5462", "ok"), ("1", "1", "ok")]
    {
        let host = with(&[(SYNCOOKIES, cookies), (SYN_BACKLOG, backlog)]);
        let said = doctor_on("syn", &host, A_MILLION);
        assert_eq!(
            said.level("net.ipv4.tcp_max_syn_backlog"),
            level,
            "{said:#?}"
        );
    }
}

#[test]
fn buffers_for_all_are_recommended_only_where_the_memory_is_there() {
    let small = "1 2 3\n";
    let said = doctor_on("tcp_mem", &with(&[(TCP_MEM, small)]), A_MILLION);
    assert_eq!(
        said.cure("net.ipv4.tcp_mem"),
        "sysctl -w net.ipv4.tcp_mem=\"750000 1000000 1500000\""
    );
    let memory = meminfo(5_000_000, 0);
    let said = doctor_on(
        "tcp_mem",
        &with(&[(TCP_MEM, small), (MEMINFO, &memory)]),
        A_MILLION,
    );
    assert!(
        said.cure("net.ipv4.tcp_mem")
            .starts_with("more memory first"),
        "{said:#?}"
    );
}

#[test]
fn what_a_host_does_not_show_is_said() {
    let mut host = good_host();
    for path in [
        TCP_MEM,
        FILE_MAX,
        NR_OPEN,
        SOMAXCONN,
        SYNCOOKIES,
        SYN_BACKLOG,
    ] {
        host.remove(path);
    }
    let said = doctor_on("hidden", &host, A_MILLION);
    assert_eq!(said.complaints().len(), 6, "{said:#?}");
    assert_eq!(said.verdict(), "1000000 connections: ready, 6 notes");
    host.remove(MEMINFO);
    let said = doctor_on("hidden", &host, A_MILLION);
    assert_eq!(said.status, 1);
    assert!(
        said.error.starts_with("longwire: ") && said.error.contains("proc/meminfo: "),
        "{said:#?}"
    );
}

#[test]
fn wrong_usage_exits_with_2() {
    for args in [
        &["--connections", "0"][..],
        &["--connections", "100000001"],
        &["--connections", "many"],
        &["--set", "ecko=true"],
        &["--config", "/nonexistent/longwire.toml"],
        &["now"],
    ] {
        let said = doctor(args);
        assert_eq!(
            (said.status, said.text.as_str()),
            (2, ""),
            "{args:?}: {said:#?}"
        );
    }
}

#[test]
fn this_hosts_values_are_the_ones_that_are_printed() {
    let said = doctor(&["--connections", "1000", "--shards", "1"]);
    for (name, path) in [
        ("net.core.somaxconn", SOMAXCONN),
        ("net.ipv4.tcp_syncookies", SYNCOOKIES),
        ("net.ipv4.tcp_max_syn_backlog", SYN_BACKLOG),
        ("fs.file-max", FILE_MAX),
        ("fs.nr_open", NR_OPEN),
        ("kernel", RELEASE),
    ] {
        let value = fs::read_to_string(Path::new("/").join(path)).unwrap();
        assert_eq!(
            said.row(name).split_whitespace().nth(2),
            Some(value.trim()),
            "{said:#?}"
        );
    }
    assert_eq!(said.level("io_uring"), "ok", "{said:#?}");
    assert_eq!(said.verdict().split(':').next(), Some("1000 connections"));
    assert_eq!(
        said.status == 0,
        said.verdict().contains(": ready"),
        "{said:#?}"
    );
}

#[test]
fn a_real_file_limit_is_noticed() {
    let args = ["--connections", "1000", "--shards", "1"];
    let said = doctor_after("ulimit -n 1000 &&", &args);
    assert_eq!(
        (said.level("RLIMIT_NOFILE"), said.status),
        ("change", 1),
        "{said:#?}"
    );
    assert!(said.row("RLIMIT_NOFILE").contains(" 1000 "), "{said:#?}");
    let said = doctor_after("ulimit -n 2000 &&", &args);
    assert_eq!(said.level("RLIMIT_NOFILE"), "ok", "{said:#?}");
}

/// Whether rings are charged is up to the kernel; what is said of the limit must agree with what came of making them.
#[test]
fn a_real_limit_on_locked_memory_is_noticed_where_it_keeps_rings_from_being_made() {
    let args = ["--connections", "1000", "--shards", "2"];
    let ordinary = "setpriv --bounding-set=-ipc_lock --inh-caps=-ipc_lock";
    let said = doctor_after(&format!("ulimit -l 64 && {ordinary}"), &args);
    let is_refused = said.level("io_uring") == "change";
    assert_eq!(
        said.level("RLIMIT_MEMLOCK") == "change",
        is_refused,
        "{said:#?}"
    );
    assert_ne!(said.level("RLIMIT_MEMLOCK"), "ok", "{said:#?}");
    let said = doctor_after("ulimit -l 64 &&", &args);
    assert_eq!(
        (said.level("io_uring"), said.level("RLIMIT_MEMLOCK")),
        ("ok", "note"),
        "{said:#?}"
    );
}

#[test]
fn a_real_refusal_of_io_uring_is_noticed() {
    let eperm = "python3 tests/server/launch/without_io_uring.py 1";
    let said = doctor_after(eperm, &["--connections", "1000"]);
    assert_eq!(
        (said.level("io_uring"), said.status),
        ("change", 1),
        "{said:#?}"
    );
    assert!(
        said.details("io_uring")[0].contains("io_uring is forbidden"),
        "{said:#?}"
    );
}

/// Settings of the network exist once per namespace, so they can be changed for real without touching the host's.
#[test]
fn real_settings_in_a_network_namespace_are_noticed_and_cured_by_the_commands_printed() {
    let namespace = Namespace::new();
    let args = ["--connections", "1000", "--shards", "1"];
    let names = [
        "net.core.somaxconn",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_max_syn_backlog",
    ];
    let said = namespace.doctor(&args);
    for name in names {
        assert_eq!(said.level(name), "ok", "{said:#?}");
    }
    for (name, value) in names.into_iter().zip(["100", "0", "60"]) {
        namespace.sh(&format!("sysctl -qw {name}={value}"));
    }
    let said = namespace.doctor(&args);
    for (name, value) in names.into_iter().zip(["100", "0", "60"]) {
        assert_eq!(said.level(name), "note", "{said:#?}");
        assert_eq!(
            said.row(name).split_whitespace().nth(2),
            Some(value),
            "{said:#?}"
        );
    }
    for name in names {
        namespace.sh(said.cure(name));
    }
    let said = namespace.doctor(&args);
    for name in names {
        assert_eq!(said.level(name), "ok", "{said:#?}");
    }
}

/// A network namespace of its own.
struct Namespace(String);

impl Namespace {
    fn new() -> Self {
        let name = format!("longwire-doctor-{}", std::process::id());
        succeed(command("ip").args(["netns", "add", &name]));
        Self(name)
    }

    fn doctor(&self, args: &[&str]) -> Said {
        let mut command = command("ip");
        command
            .args(["netns", "exec", &self.0, &binary(), "doctor"])
            .args(args);
        Said::new(command.output().unwrap())
    }

    fn sh(&self, script: &str) {
        succeed(command("ip").args(["netns", "exec", &self.0, "sh", "-c", script]));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = command("ip").args(["netns", "delete", &self.0]).status();
    }
}

fn succeed(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
}

#[test]
fn the_memory_of_a_connection_is_what_the_page_says() {
    let page = fs::read_to_string("tuning/memory.md").unwrap();
    let row = page
        .lines()
        .find(|line| line.starts_with("| **Together** |"))
        .unwrap();
    let number = row.split("**").nth(3).unwrap().replace(',', "");
    assert_eq!(number.parse(), Ok(CONNECTION_BYTES));
}

#[test]
fn logins_get_the_file_limit_of_the_unit() {
    let unit = fs::read_to_string("tuning/host/longwire.service").unwrap();
    let of_unit = unit
        .lines()
        .find_map(|line| line.strip_prefix("LimitNOFILE="))
        .unwrap();
    let limits = fs::read_to_string("tuning/host/limits.conf").unwrap();
    let of_logins: Vec<&str> = limits
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.get(2) == Some(&"nofile"))
        .map(|words| words[3])
        .collect();
    assert_eq!(of_logins, [of_unit, of_unit]);
}
