"""The figures of a server: from the load generator's reports, over rounds, and beside Longwire's."""

import statistics
from dataclasses import dataclass

# The last connections have subscribed so long after they were made.
SUBSCRIBED_S = 0.5
# Below this part of the rate a server has not held it.
HELD_SHARE = 0.95


@dataclass(frozen=True)
class Figure:
    """A column: its key, its heading, what it is, and how a value is written."""

    key: str
    heading: str
    meaning: str
    write: callable


def write_bytes(value: float) -> str:
    for unit, size in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if abs(value) >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.0f} B"


def write_us(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:.2f} s"
    if value >= 1e4:
        return f"{value / 1e3:.0f} ms"
    if value >= 1e3:
        return f"{value / 1e3:.1f} ms"
    return f"{value:.2f} µs" if value < 10 else f"{value:.0f} µs"


# In all of them less is better.
FIGURES = [
    Figure(
        "memory_bytes",
        "Memory per connection",
        "resident memory of all its processes with every connection held, less that before the first, per connection",
        write_bytes,
    ),
    Figure(
        "connect_us",
        "CPU per connection",
        "its CPU time for TCP, WebSocket handshake and subscription",
        write_us,
    ),
    Figure("delivery_us", "CPU per delivery", "its CPU time per message received by a subscriber", write_us),
    Figure(
        "p99_us",
        "Delivery p99",
        "from when a message was due until a subscriber received it; 99 % took at most this",
        write_us,
    ),
]


def idle_figures(report: dict, cpu_before_s: float) -> dict:
    """From what `idle --json` wrote and the server's CPU time before it."""
    connecting, memory = report["connecting"], report["server"]
    check_connected(connecting)
    cpu_s = cpu_when_subscribed(report["series"], connecting["wanted"]) - cpu_before_s
    return {
        "memory_bytes": memory["rss_per_connection_bytes"],
        "connect_us": cpu_s * 1e6 / connecting["wanted"],
        "lost_connections": sum(report["lost"].values()),
    }


def check_connected(connecting: dict):
    connected, wanted = connecting["connected"], connecting["wanted"]
    if connected != wanted:
        causes = ", ".join(f"{cause} {count}" for cause, count in connecting["failed"].items())
        raise ValueError(f"{connected} of {wanted} connected: {causes}")


def cpu_when_subscribed(samples: list[dict], wanted: int) -> float:
    """The server's CPU time at the first sample at which all have surely subscribed."""
    since_s = next((sample["at_s"] for sample in samples if sample["connected"] >= wanted), None)
    for sample in samples:
        if since_s is not None and sample["at_s"] >= since_s + SUBSCRIBED_S:
            return sample["server_cpu_seconds"]
    raise ValueError("no sample after all have subscribed")


def fanout_figures(report: dict) -> dict:
    """From what `fanout --json` wrote."""
    check_connected(report["connecting"])
    if not report["deliveries"]:
        raise ValueError("nothing was delivered: " + "; ".join(report["failures"] or ["without a reason"]))
    wanted_per_s = report["wanted_rate_per_s"] * report["connecting"]["wanted"]
    return {
        "delivery_us": report["server"]["cpu_per_delivery_us"],
        "p99_us": report["delivery_latency"]["p99_us"],
        "lost_messages": report["lost_messages"],
        "lost_connections": sum(report["dropped"].values()),
        "disorders": report["duplicated_messages"] + report["reordered_subscribers"],
        "held_share": report["deliveries_per_s"] / wanted_per_s,
    }


def one_round(idle: dict, fanout: dict) -> dict:
    """Both runs of a round together."""
    lost = idle["lost_connections"] + fanout["lost_connections"]
    return idle | fanout | {"lost_connections": lost}


def over_rounds(rounds: list[dict]) -> dict:
    """Medians of what was measured, sums of what went wrong, the least of what was held."""
    whole = {figure.key: statistics.median(each[figure.key] for each in rounds) for figure in FIGURES}
    for key in ("lost_messages", "lost_connections", "disorders"):
        whole[key] = sum(each[key] for each in rounds)
    whole["held_share"] = min(each["held_share"] for each in rounds)
    if whole["held_share"] < HELD_SHARE:
        # What waits for a server that is too slow waits the longer the longer the run.
        whole["p99_us"] = None
    return whole


def ratio(value: float | None, reference: float | None) -> float | None:
    """How many times the reference; None if that says nothing."""
    return value / reference if value is not None and reference is not None and reference > 0 else None


def write_ratio(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}x" if value < 10 else f"{value:.1f}x"


def remarks(whole: dict) -> list[str]:
    """What is to be said of a server besides its figures."""
    said = []
    if whole["held_share"] < HELD_SHARE:
        said.append(f"held only {whole['held_share']:.0%} of the rate, so its latency says nothing")
    if whole["lost_connections"]:
        said.append(f"{whole['lost_connections']} connections lost")
    if whole["disorders"]:
        said.append(f"{whole['disorders']} messages doubled or subscribers out of order")
    return said
