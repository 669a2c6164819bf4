//! File limits, and what follows from them: how many shards there are for how many cores.

use super::Need;
use super::finding::{Finding, Level, at_least, plural};
use super::host::Host;
use super::sysctl::Key;
use crate::limits::{files_for, reserve};

/// The unit as it is in the repository.
const UNIT: &str = include_str!("../../tuning/host/longwire.service");

/// Findings about files.
pub fn findings(host: &Host, need: &Need) -> Vec<Finding> {
    let limits = [
        Some(table(host, need)),
        shards(host, need),
        Some(nr_open(host, need)),
        Some(file_max(host, need)),
    ];
    limits.into_iter().flatten().collect()
}

fn table(host: &Host, need: &Need) -> Finding {
    let files = host.files_per_table();
    let wanted = files_for(need.connections.max(1), need.shards, need.listeners);
    let (level, why) = match &need.refusal {
        None => (
            Level::Ok,
            format!(
                "each shard has a table of its own; {} hold {} connections",
                need.shards, need.held
            ),
        ),
        Some(refusal) => (Level::Change, refusal.to_string()),
    };
    Finding::new(level, "RLIMIT_NOFILE", files, at_least(wanted), why)
        .cured_by(raise_to(host, wanted))
}

/// More shards than cores are there only because a table is too small for one shard per core.
fn shards(host: &Host, need: &Need) -> Option<Finding> {
    if need.refusal.is_some() {
        return None;
    }
    let (shards, cores) = (need.shards, need.cores);
    let found = format!("{shards} on {}", plural(cores, "core"));
    let level = if shards > cores {
        Level::Note
    } else {
        Level::Ok
    };
    let why = match level {
        Level::Ok => "no two shards wait for one core",
        _ => "shards on one core take turns: a pass of one delays the others there",
    };
    let files = files_for(need.connections, cores, need.listeners);
    let finding = Finding::new(level, "shards", found, format!("at most {cores}"), why);
    let cure = match need.shards_are_set {
        true => "shards = 0 in the configuration".to_owned(),
        false => raise_to(host, files),
    };
    Some(finding.cured_by(cure))
}

fn nr_open(host: &Host, need: &Need) -> Finding {
    let name = Key::NrOpen.name();
    let wished = files_for(
        need.connections,
        need.shards.min(need.cores),
        need.listeners,
    );
    let wanted = wished.max(unit_files());
    let Some(nr_open) = host.nr_open else {
        return Finding::hidden(name, at_least(wanted));
    };
    if host.files.hard > nr_open {
        let why = "below the hard file limit: the server cannot raise its soft limit to that";
        let level = match need.refusal {
            Some(_) => Level::Change,
            None => Level::Note,
        };
        let hard = host.files.hard;
        return Finding::new(level, name, nr_open, at_least(hard), why)
            .cured_by(Key::NrOpen.command(hard.min(Key::NrOpen.value())));
    }
    let level = if nr_open < wanted {
        Level::Note
    } else {
        Level::Ok
    };
    let why = "the highest file limit a process may be given";
    Finding::new(level, name, nr_open, at_least(wanted), why).cured_by(Key::NrOpen.command(wanted))
}

fn file_max(host: &Host, need: &Need) -> Finding {
    let name = Key::FileMax.name();
    let listeners = need.shards * need.listeners;
    let own = need.connections + reserve(need.shards, need.listeners) + listeners as u64;
    let (Some(file_max), Some(open)) = (host.file_max, host.open_files) else {
        return Finding::hidden(name, at_least(own));
    };
    let wanted = open + own;
    let (level, exempt) = match (file_max < wanted, host.privileges.sys_admin()) {
        (false, _) => (Level::Ok, ""),
        (true, false) => (Level::Change, ""),
        (true, true) => (Level::Note, "; this process is exempt, by CAP_SYS_ADMIN"),
    };
    let why = format!("open files of the whole machine, {open} now{exempt}");
    Finding::new(level, name, file_max, at_least(wanted), why)
        .cured_by(Key::FileMax.command(wanted))
}

/// A table of so many files, or of as many as the unit has.
fn raise_to(host: &Host, files: u64) -> String {
    let files = files.max(unit_files());
    host.raise_limit(
        &format!("LimitNOFILE={files}"),
        &format!("ulimit -Hn {files}"),
    )
}

/// `LimitNOFILE=` of the unit.
fn unit_files() -> u64 {
    UNIT.lines()
        .find_map(|line| line.strip_prefix("LimitNOFILE=")?.parse().ok())
        .expect("the unit has a file limit, which a test sees to")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_the_unit_is_one_the_kernel_takes_by_default() {
        assert_eq!(unit_files(), 1024 * 1024);
    }
}
