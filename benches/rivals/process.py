"""A server as processes on a core of its own, and what they use."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

START_PATIENCE_S = 20
STOP_PATIENCE_S = 20
POLL_S = 0.05
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """Something did not go as it must; the message says what."""


class Server:
    """Starts a server kept on one core; it serves when all of its addresses take connections."""

    def __init__(self, command: list[str], core: int, addresses: list[str], log: Path, directory: Path):
        for address in addresses:
            wait_until(lambda: is_free(address), STOP_PATIENCE_S, f"{address} is in use")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LONGWIRE_")}
        self.log = log
        with open(log, "w") as output:
            self.process = subprocess.Popen(
                ["taskset", "-c", str(core), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                cwd=directory,
            )
        try:
            wait_until(lambda: self.serves(addresses), START_PATIENCE_S, "it does not serve")
        except Failed as failed:
            self.stop()
            raise Failed(f"{failed}: {self.last_words()}") from None

    def serves(self, addresses: list[str]) -> bool:
        if self.process.poll() is not None:
            raise Failed(f"it ended with {self.process.returncode}")
        return all(takes_connections(address) for address in addresses)

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def processes(self) -> list[int]:
        """The server and all that descend from it."""
        parents = {}
        for entry in os.scandir("/proc"):
            if entry.name.isdigit() and (fields := stat_fields(int(entry.name))):
                parents[int(entry.name)] = int(fields[1])
        return descendants(self.process.pid, parents)

    def cpu_seconds(self) -> float:
        """User and system time of all of its processes."""
        stats = (stat_fields(process) for process in self.processes())
        return sum(int(fields[11]) + int(fields[12]) for fields in stats if fields) / TICKS_PER_S

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_PATIENCE_S)
        except subprocess.TimeoutExpired:
            for process in self.processes():
                os.kill(process, signal.SIGKILL)
            self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def stat_fields(process: int) -> list[str] | None:
    """What /proc says behind a process's name, from its state on; None if it is gone."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return None
    return stat[stat.rindex(")") + 1 :].split()


def descendants(root: int, parents: dict[int, int]) -> list[int]:
    """`root` and all below it, by the parent of each process."""
    found = [root]
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return found


def split_address(address: str) -> tuple[str, int]:
    host, port = address.rsplit(":", 1)
    return host, int(port)


def takes_connections(address: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(split_address(address)) == 0


def is_free(address: str) -> bool:
    """The kernel may hold on to the listeners of a process that has just ended."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(split_address(address))
        except OSError:
            return False
    return True


def wait_until(holds, patience_s: float, complaint: str):
    deadline = time.monotonic() + patience_s
    while not holds():
        if time.monotonic() > deadline:
            raise Failed(complaint)
        time.sleep(POLL_S)
