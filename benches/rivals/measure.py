"""One round of one server: the same two runs of the load generator for all."""

import json
import subprocess
from pathlib import Path

import figures
from process import Failed, Server
from rivals import PLACE, ROOT, Rival

SERVER_CORE = 0
LOADGEN_CORE = 1
# Each round: idle connections held so long, then messages published so long.
HOLD_S = 10
PUBLISH_S = 10
# What every server here holds with ten thousand subscribers, so that latencies are those of the same load.
RATE_PER_S = 5
MESSAGE_BYTES = 100
RUN_PATIENCE_S = 180


def one_round(rival: Rival, connections: int, out: Path) -> dict:
    """Starts the server afresh for each run; the reports stay in `out`."""
    with start(rival) as server:
        cpu_before_s = server.cpu_seconds()
        report = load(rival, server, "idle", ["--hold", str(HOLD_S)], connections, out)
        idle = figures.idle_figures(report, cpu_before_s)
    with start(rival) as server:
        rate = ["--rate", str(RATE_PER_S), "--duration", str(PUBLISH_S), "--size", str(MESSAGE_BYTES)]
        report = load(rival, server, "fanout", rate + rival.publish, connections, out)
        fanout = figures.fanout_figures(report)
    return figures.one_round(idle, fanout) | {"machine": report["machine"]}


def start(rival: Rival) -> Server:
    run = PLACE / "run"
    return Server(rival.command, SERVER_CORE, rival.addresses, run / f"{rival.name}.log", run)


def load(rival: Rival, server: Server, command: str, arguments: list[str], connections: int, out: Path) -> dict:
    """Runs the load generator; gives its report. That not all went well is in there, and no failure here."""
    path = out / f"{rival.name}-{command}.json"
    path.unlink(missing_ok=True)
    processes = ",".join(map(str, server.processes()))
    try:
        done = subprocess.run(
            [
                *(str(ROOT / "target/release/longwire-loadgen"), command),
                *("--connections", str(connections), "--cores", str(LOADGEN_CORE), "--pin", "--quiet"),
                *("--server-pid", processes, "--json", str(path)),
                *(rival.subscribe + arguments),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_PATIENCE_S,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{command} took longer than {RUN_PATIENCE_S} s") from None
    if not path.exists():
        raise Failed(f"{command}: {done.stderr.strip() or 'no report'}")
    return json.loads(path.read_text())
