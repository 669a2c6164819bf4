//! Memory: what the connections take, and what may be taken.

use super::Need;
use super::finding::{Finding, Level, at_least, bytes};
use super::host::Host;
use crate::config::Admission;

/// An idle WebSocket in the program, and with all the kernel has for it: measured, see tuning/memory.md.
pub const USER_BYTES: u64 = 124;
/// The same, the kernel's sockets, files and waits included.
pub const CONNECTION_BYTES: u64 = 4_020;

/// Findings about memory.
pub fn findings(host: &Host, need: &Need, admission: &Admission) -> Vec<Finding> {
    let mut findings = vec![available(host, need)];
    findings.extend(configured(need, admission));
    findings.extend(control_group(host, need, admission));
    findings.push(swap(host));
    findings.extend(huge_pages(host));
    findings
}

fn available(host: &Host, need: &Need) -> Finding {
    let wanted = need.connections * CONNECTION_BYTES;
    let found = host.memory_available_bytes;
    let level = level_of(found, wanted);
    let why = format!(
        "{} connections x {CONNECTION_BYTES} bytes while idle: {USER_BYTES} in the program, the rest in the kernel",
        need.connections
    );
    let held = found / CONNECTION_BYTES;
    Finding::new(
        level,
        "MemAvailable",
        bytes(found),
        at_least(bytes(wanted)),
        why,
    )
    .cured_by(format!("more memory; this holds {held} idle connections"))
}

/// A configured bound counts what is resident in the program only.
fn configured(need: &Need, admission: &Admission) -> Option<Finding> {
    let found = admission.memory_bytes as u64;
    let wanted = with_headroom(need.connections * USER_BYTES, admission);
    let percent = admission.memory_refuse_percent;
    let why = format!(
        "connections are refused from {percent} % of it on; it counts the program's own memory"
    );
    (found > 0).then(|| {
        let level = level_of(found, wanted);
        Finding::new(
            level,
            "admission.memory_bytes",
            bytes(found),
            at_least(bytes(wanted)),
            why,
        )
        .cured_by(format!(
            "admission.memory_bytes = {wanted} in the configuration"
        ))
    })
}

fn control_group(host: &Host, need: &Need, admission: &Admission) -> Vec<Finding> {
    let cgroup = &host.cgroup;
    let plain = need.connections * CONNECTION_BYTES;
    let (refused, refused_why) = match admission.memory_bytes {
        0 => (
            with_headroom(plain, admission),
            format!(
                "connections are refused from {} % of it on",
                admission.memory_refuse_percent
            ),
        ),
        _ => (plain, "the kernel ends processes above it".to_owned()),
    };
    let limits = [
        (
            "memory.max",
            cgroup.memory_max_bytes,
            refused,
            refused_why.as_str(),
            "MemoryMax",
        ),
        (
            "memory.limit_in_bytes",
            cgroup.memory_v1_bytes,
            plain,
            "the kernel ends processes above it (cgroup v1)",
            "MemoryLimit",
        ),
        (
            "memory.high",
            cgroup.memory_high_bytes,
            plain,
            "above it the kernel slows the process down until nothing moves",
            "MemoryHigh",
        ),
    ];
    let findings: Vec<Finding> = limits
        .into_iter()
        .filter_map(|(name, found, wanted, why, directive)| {
            let found = found?;
            let why = format!("{why}; the kernel's memory for connections counts too");
            let finding = Finding::new(
                level_of(found, wanted),
                name,
                bytes(found),
                at_least(bytes(wanted)),
                why,
            );
            Some(finding.cured_by(format!(
                "{directive}={wanted} in its unit, or the container's memory limit"
            )))
        })
        .collect();
    if findings.is_empty() {
        let why = "no control group around this process bounds its memory";
        return vec![Finding::new(
            Level::Ok,
            "memory.max",
            "no limit",
            at_least(bytes(refused)),
            why,
        )];
    }
    findings
}

fn swap(host: &Host) -> Finding {
    let is_swapped = host.swap_bytes > 0 && host.cgroup.swap_max_bytes != Some(0);
    let (level, why) = match is_swapped {
        false => (Level::Ok, "nothing of the program can be swapped out"),
        true => (
            Level::Note,
            "idle connections are swapped out first; a publication to all reads them back while their shard waits",
        ),
    };
    let found = match (host.swap_bytes, host.cgroup.swap_max_bytes) {
        (0, _) => "none".to_owned(),
        (all, Some(max)) => bytes(all.min(max)),
        (all, None) => bytes(all),
    };
    Finding::new(level, "swap", found, "none", why)
        .cured_by("MemorySwapMax=0 in its unit, as tuning/host/longwire.service has it")
}

fn huge_pages(host: &Host) -> Option<Finding> {
    let found = host.huge_pages.as_ref()?;
    let why = "the program switches transparent huge pages off for itself";
    Some(Finding::new(
        Level::Ok,
        "transparent_hugepage",
        found,
        "any",
        why,
    ))
}

/// So much that `used_bytes` of it do not make the server refuse connections.
fn with_headroom(used_bytes: u64, admission: &Admission) -> u64 {
    (used_bytes * 100).div_ceil(u64::from(admission.memory_refuse_percent.max(1)))
}

fn level_of(found: u64, wanted: u64) -> Level {
    if found < wanted {
        Level::Change
    } else {
        Level::Ok
    }
}
