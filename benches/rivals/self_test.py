"""Checks the arithmetic and the reports on made-up figures; needs no server. One line per check, as tests/run counts
them."""

import json

import figures
import process
import rivals
from report import Report

SAMPLES = [
    {"at_s": 0.0, "connected": 0, "server_cpu_seconds": 1.0},
    {"at_s": 1.0, "connected": 10, "server_cpu_seconds": 1.5},
    {"at_s": 2.0, "connected": 10, "server_cpu_seconds": 1.75},
    {"at_s": 3.0, "connected": 10, "server_cpu_seconds": 9.0},
]
CONNECTING = {"connected": 10, "wanted": 10, "failed": {}}
IDLE = {
    "connecting": CONNECTING,
    "server": {"rss_per_connection_bytes": 400.0},
    "series": SAMPLES,
    "lost": {"reset": 1, "timed out": 2},
}
FANOUT = {
    "connecting": CONNECTING,
    "deliveries": 100,
    "deliveries_per_s": 90.0,
    "wanted_rate_per_s": 10.0,
    "failures": [],
    "server": {"cpu_per_delivery_us": 4.0},
    "delivery_latency": {"p99_us": 50_000.0},
    "lost_messages": 7,
    "dropped": {"reset": 3},
    "duplicated_messages": 1,
    "reordered_subscribers": 1,
}


def a_round(**changed) -> dict:
    whole = {"memory_bytes": 400.0, "connect_us": 20.0, "delivery_us": 4.0, "p99_us": 50_000.0}
    return whole | {"lost_messages": 0, "lost_connections": 0, "disorders": 0, "held_share": 1.0} | changed


def a_report(**changed) -> Report:
    whole = {
        "date": "2030-01-02",
        "machine": "2 cores",
        "connections": 10,
        "rounds": 1,
        "load": "A load.",
        "command": "run",
        "versions": {"longwire": "1", "<other>": "2"},
        "measured": {"longwire": [a_round()], "<other>": [a_round(memory_bytes=4000.0, lost_messages=3)]},
        "not_measured": {"third": "no such thing"},
    }
    return Report(**(whole | changed))


def refusal(function, *arguments) -> str:
    try:
        function(*arguments)
    except ValueError as error:
        return str(error)
    raise AssertionError("it was not refused")


def idle_is_read_when_all_have_subscribed():
    found = figures.idle_figures(IDLE, 1.0)
    assert found == {"memory_bytes": 400.0, "connect_us": 75_000.0, "lost_connections": 3}, found
    assert "no sample" in refusal(figures.idle_figures, IDLE | {"series": SAMPLES[:2]}, 1.0)


def missing_connections_are_no_figures():
    missing = CONNECTING | {"connected": 9, "failed": {"timed out": 1}}
    for read in (lambda: figures.idle_figures(IDLE | {"connecting": missing}, 0.0),
                 lambda: figures.fanout_figures(FANOUT | {"connecting": missing})):
        assert refusal(read) == "9 of 10 connected: timed out 1"


def fanout_is_read():
    found = figures.fanout_figures(FANOUT)
    assert (found["delivery_us"], found["p99_us"], found["lost_messages"]) == (4.0, 50_000.0, 7), found
    assert (found["lost_connections"], found["disorders"], found["held_share"]) == (3, 2, 0.9), found
    silent = FANOUT | {"deliveries": 0, "failures": ["403"]}
    assert refusal(figures.fanout_figures, silent) == "nothing was delivered: 403"


def rounds_become_medians_and_sums():
    rounds = [a_round(p99_us=p99_us, lost_messages=lost) for p99_us, lost in ((1.0, 0), (100.0, 5), (3.0, 1))]
    whole = figures.over_rounds(rounds)
    assert (whole["p99_us"], whole["lost_messages"], whole["held_share"]) == (3.0, 6, 1.0), whole
    assert figures.remarks(whole) == []


def a_rate_that_was_not_held_has_no_latency():
    slow = [a_round(), a_round(held_share=0.5), a_round()]
    whole = figures.over_rounds(slow)
    assert whole["p99_us"] is None and whole["delivery_us"] == 4.0, whole
    assert figures.remarks(whole) == ["held only 50% of the rate, so its latency says nothing"]
    report = a_report(measured={"longwire": [a_round()], "<other>": slow})
    assert report.row("<other>")[4] == "-" and report.html().count("<svg") == len(figures.FIGURES)
    assert json.loads(report.json())["ratios"]["<other>"]["p99_us"] is None


def ratios_are_to_longwire():
    assert figures.ratio(12.0, 4.0) == 3.0
    assert figures.ratio(12.0, 0.0) is None and figures.ratio(None, 4.0) is None
    assert (figures.write_ratio(3.0), figures.write_ratio(31.26), figures.write_ratio(None)) == ("3.00x", "31.3x", "-")


def values_have_units():
    assert [figures.write_bytes(value) for value in (439.4, 2048, 3 << 20)] == ["439 B", "2.0 KiB", "3.0 MiB"]
    written = [figures.write_us(value) for value in (4.358, 25.2, 1500, 52_340, 2.5e6)]
    assert written == ["4.36 µs", "25 µs", "1.5 ms", "52 ms", "2.50 s"], written


def the_reports_say_the_same():
    report = a_report()
    for text in (report.text(), report.markdown()):
        assert "10.0x (3.9 KiB)" in text and "1.00x (4.00 µs)" in text, text
        assert "third: not measured: no such thing" in text and "2030-01-02, 2 cores" in text, text
    assert json.loads(report.json())["ratios"]["<other>"]["memory_bytes"] == 10.0
    columns = {line.count("|") for line in report.markdown().splitlines() if line.startswith("|")}
    assert len(columns) == 1, columns


def the_same_protocol_is_compared():
    assert a_report().over_the_same_protocol() == []
    measured = {name: [a_round()] for name in ("longwire", "longwire-centrifuge")}
    measured["centrifugo"] = [a_round(memory_bytes=a_round()["memory_bytes"] * 3)]
    report = a_report(measured=measured)
    (line,) = report.over_the_same_protocol()
    assert line.startswith("centrifugo to longwire-centrifuge: Memory per connection 3.00x, "), line
    assert line in report.notes()
    # Longwire itself is no rival.
    assert report.complaint(5) == "1 rivals were measured, not 3"


def a_poor_comparison_is_a_failure():
    assert a_report().complaint(1) is None
    assert a_report().complaint(5) == "1 rivals were measured, not 3"
    for wrong in ({"lost_messages": 1}, {"lost_connections": 1}, {"disorders": 1}, {"held_share": 0.9}):
        measured = {"longwire": [a_round(**wrong)], "<other>": [a_round()]}
        assert a_report(measured=measured).complaint(1).startswith("longwire "), wrong


def a_page_shows_no_markup_of_others():
    page = a_report().html()
    assert "<other>" not in page and "&lt;other&gt;" in page
    assert page.count("<svg") == len(figures.FIGURES) and "3 messages lost" in page


def all_descendants_are_found():
    assert process.descendants(1, {1: 0, 5: 2, 2: 1, 3: 1, 4: 9}) == [1, 2, 3, 5]


def versions_are_read():
    assert rivals.upstream("1:1.3.6+dfsg-2") == "1.3.6" and rivals.upstream("2.9.10-1+b3") == "2.9.10"
    lock = '[[package]]\nname = "tokio"\nversion = "1.2.3"\n'
    assert rivals.locked_version(lock, "tokio") == "1.2.3"


CHECKS = [
    idle_is_read_when_all_have_subscribed,
    missing_connections_are_no_figures,
    fanout_is_read,
    rounds_become_medians_and_sums,
    a_rate_that_was_not_held_has_no_latency,
    ratios_are_to_longwire,
    values_have_units,
    the_reports_say_the_same,
    the_same_protocol_is_compared,
    a_poor_comparison_is_a_failure,
    a_page_shows_no_markup_of_others,
    all_descendants_are_found,
    versions_are_read,
]


def run() -> int:
    """Runs all checks; the exit code."""
    failed = 0
    for check in CHECKS:
        try:
            check()
            print(f"ok {check.__name__}")
        except Exception as error:
            failed += 1
            print(f"FAILED {check.__name__}: {type(error).__name__} {error}")
    return min(failed, 1)
