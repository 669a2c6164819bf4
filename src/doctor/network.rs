//! TCP: queues, buffers, tracking, congestion control.

use super::Need;
use super::finding::{Finding, Level, at_least, bytes};
use super::host::Host;
use super::memory::CONNECTION_BYTES;
use super::sysctl::{Key, set};
use crate::config::Tcp;

/// `net.ipv4.tcp_mem` is in pages.
const TCP_MEM: &str = "net.ipv4.tcp_mem";
const MAX_SYN_BACKLOG: &str = "net.ipv4.tcp_max_syn_backlog";

/// Findings about the network.
pub fn findings(host: &Host, need: &Need, tcp: &Tcp) -> Vec<Finding> {
    let findings = [
        Some(somaxconn(host, tcp)),
        Some(syncookies(host)),
        Some(max_syn_backlog(host, tcp)),
        Some(tcp_mem(host, need)),
        conntrack(host, need),
        Some(congestion_control(host, tcp)),
        port_range(host),
    ];
    findings.into_iter().flatten().collect()
}

fn somaxconn(host: &Host, tcp: &Tcp) -> Finding {
    let backlog = u64::from(tcp.backlog);
    let name = Key::Somaxconn.name();
    let Some(found) = host.somaxconn else {
        return Finding::hidden(name, at_least(backlog));
    };
    let (level, why) = match found < backlog {
        false => (
            Level::Ok,
            format!("tcp.backlog, {backlog}, is in force for every listener"),
        ),
        true => (
            Level::Note,
            format!("each listener queues {found} connections, and not tcp.backlog, {backlog}"),
        ),
    };
    Finding::new(level, name, found, at_least(backlog), why)
        .cured_by(Key::Somaxconn.command(backlog))
}

fn syncookies(host: &Host) -> Finding {
    let name = Key::Syncookies.name();
    let Some(found) = host.syncookies else {
        return Finding::hidden(name, Key::Syncookies.value());
    };
    let (level, why) = match found {
        0 => (
            Level::Note,
            "connections that come faster than they are accepted are dropped, and tried again after 1 s",
        ),
        _ => (
            Level::Ok,
            "half-open connections beyond the backlog get a cookie instead of being dropped",
        ),
    };
    Finding::new(level, name, found, at_least(Key::Syncookies.value()), why)
        .cured_by(Key::Syncookies.command(0))
}

/// Without cookies the kernel keeps the last quarter for peers it has met before.
fn max_syn_backlog(host: &Host, tcp: &Tcp) -> Finding {
    let backlog = u64::from(tcp.backlog).min(host.somaxconn.unwrap_or(u64::MAX));
    let wanted = (backlog * 4).div_ceil(3);
    let Some(found) = host.max_syn_backlog else {
        return Finding::hidden(MAX_SYN_BACKLOG, "any");
    };
    if host.syncookies != Some(0) {
        let why = "bounds nothing while SYN cookies are on";
        return Finding::new(Level::Ok, MAX_SYN_BACKLOG, found, "any", why);
    }
    let level = if found < wanted {
        Level::Note
    } else {
        Level::Ok
    };
    let half_open = found - found / 4;
    let why = format!(
        "without SYN cookies, {half_open} half-open connections per listener, where {backlog} may wait"
    );
    Finding::new(level, MAX_SYN_BACKLOG, found, at_least(wanted), why)
        .cured_by(set(MAX_SYN_BACKLOG, wanted))
}

/// Idle sockets have no buffers. One with a publication its client has not acknowledged has one page, so a publication
/// to all takes up to a page for each.
fn tcp_mem(host: &Host, need: &Need) -> Finding {
    let pages = need.connections;
    let raised = format!("{} {pages} {}", pages * 3 / 4, pages * 3 / 2);
    let Some([low, pressure, max]) = host.tcp_mem else {
        return Finding::hidden(TCP_MEM, at_least(raised));
    };
    let level = if pressure < pages {
        Level::Note
    } else {
        Level::Ok
    };
    let buffers = pages * rustix::param::page_size() as u64;
    let why = "pages of buffers: idle sockets have none, a short publication to all takes one each until acknowledged";
    let has_room = host.memory_available_bytes >= need.connections * CONNECTION_BYTES + buffers;
    let cure = match has_room {
        true => set(TCP_MEM, format!("\"{raised}\"")),
        false => format!(
            "more memory first: it is {} on top of the connections",
            bytes(buffers)
        ),
    };
    Finding::new(
        level,
        TCP_MEM,
        format!("{low} {pressure} {max}"),
        at_least(raised),
        why,
    )
    .cured_by(cure)
}

fn conntrack(host: &Host, need: &Need) -> Option<Finding> {
    let tracked = host.conntrack?;
    let (count, wanted) = (tracked.count, need.connections);
    let (level, why) = match (tracked.max < wanted, count) {
        (false, _) => (Level::Ok, format!("{count} connections are tracked now")),
        (true, 0) => (
            Level::Note,
            "nothing is tracked now; if a firewall rule begins to, those beyond it are dropped"
                .to_owned(),
        ),
        (true, _) => (
            Level::Change,
            format!("{count} connections are tracked now; those beyond it are dropped"),
        ),
    };
    let key = Key::ConntrackMax;
    Some(
        Finding::new(level, key.name(), tracked.max, at_least(wanted), why)
            .cured_by(key.command(wanted)),
    )
}

fn congestion_control(host: &Host, tcp: &Tcp) -> Finding {
    const NAME: &str = "tcp.congestion_control";
    let available = &host.available_congestion_controls;
    let wanted = &tcp.congestion_control;
    if wanted.is_empty() {
        let found = host.congestion_control.as_deref().unwrap_or("?");
        return Finding::new(
            Level::Ok,
            NAME,
            found,
            "any",
            "the setting is empty: the system's is used",
        );
    }
    if !available.contains(wanted) {
        let why = format!(
            "this kernel has {} now; without it the server does not start",
            available.join(", ")
        );
        return Finding::new(Level::Change, NAME, "not available", wanted, why)
            .cured_by(format!("modprobe tcp_{wanted}"));
    }
    let allowed = &host.allowed_congestion_controls;
    let (level, why) = match (allowed.contains(wanted), host.privileges.net_admin()) {
        (true, _) => (Level::Ok, "any process may choose it"),
        (false, true) => (
            Level::Note,
            "this process may choose it, by CAP_NET_ADMIN; an ordinary one could not start",
        ),
        (false, false) => (
            Level::Change,
            "this process may not choose it, and would not start",
        ),
    };
    let cure = format!("\"{} {wanted}\"", allowed.join(" "));
    Finding::new(
        level,
        NAME,
        format!("{wanted} available"),
        format!("{wanted} allowed"),
        why,
    )
    .cured_by(set("net.ipv4.tcp_allowed_congestion_control", cure))
}

fn port_range(host: &Host) -> Option<Finding> {
    let (first, last) = host.port_range?;
    let why = "bounds who opens connections (proxies, load generators), not a server";
    Some(Finding::new(
        Level::Ok,
        "net.ipv4.ip_local_port_range",
        format!("{first} {last}"),
        "any",
        why,
    ))
}
