"""What tests/long/slowhttptest.sh runs: each attack in turn, the healthy client beside it, and what it left behind."""

import argparse
import asyncio
import http.client
import re
import statistics
import subprocess
import time

from harness import Report, Server, subscribe

PATIENCE_S = 30
# The times the server gives a request; an attack goes on for longer.
TIMEOUT_MS = 10_000
CONNECT_RATE = 1_000


class Healthy:
    """Publishes to itself again and again, each time on a new connection."""

    def __init__(self, server: Server):
        self.server = server
        self.messages = asyncio.Queue()
        self.round_trips_ms = []
        self.failures = []

    async def run(self, until: asyncio.Event):
        on_message = self.messages.put_nowait
        subscriber = await subscribe(self.server.host, self.server.port, "/channels/healthy", on_message=on_message)
        while not until.is_set():
            try:
                await asyncio.wait_for(self.round_trip(), PATIENCE_S)
            except Exception as error:
                self.failures.append(repr(error))
            await asyncio.sleep(0.05)
        if subscriber.ended.done():
            self.failures.append(f"its WebSocket ended: {subscriber.problem or subscriber.close_code}")
        subscriber.transport.abort()

    async def round_trip(self):
        started = time.monotonic()
        status = await asyncio.to_thread(self.publish)
        if status != 200:
            raise ConnectionError(f"publishing answers {status}")
        await self.messages.get()
        self.round_trips_ms.append((time.monotonic() - started) * 1000)

    def publish(self) -> int:
        connection = http.client.HTTPConnection(self.server.host, self.server.port, timeout=PATIENCE_S)
        connection.request("POST", "/channels/healthy", "still served", {"Connection": "close"})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status


def attack(server: Server, options, *arguments: str) -> str:
    """Runs slowhttptest to its end; gives its last report, one figure per line."""
    base = f"http://{server.host}:{server.port}"
    command = ["slowhttptest", "-c", str(options.connections), "-r", str(CONNECT_RATE), "-l", str(options.seconds)]
    command += ["-p", "5", *(argument.replace("BASE", base) for argument in arguments)]
    out = subprocess.run(command, capture_output=True, text=True, timeout=options.seconds + 60).stdout
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", out)
    return plain[plain.rfind("slow HTTP test status") :]


async def under(server: Server, options, report: Report, name: str, *arguments: str):
    print(f"{name}:", flush=True)
    closes_before = server.metrics().closes()
    over = asyncio.Event()
    healthy = Healthy(server)
    running = asyncio.create_task(healthy.run(over))
    last = await asyncio.to_thread(attack, server, options, *arguments)
    over.set()
    await running
    for line in last.splitlines():
        if re.match(r"\s*(initializing|pending|connected|error|closed|service available):", line):
            report.figure(*(part.strip() for part in line.split(":", 1)))
    times = sorted(healthy.round_trips_ms)
    report.check(len(times) > 1 and not healthy.failures, f"{name}: the healthy client is served: {healthy.failures[:3]}")
    if len(times) > 1:
        p99 = statistics.quantiles(times, n=100)[98]
        report.figure("healthy round trips", f"{len(times)}, median {statistics.median(times):.1f} ms, p99 {p99:.1f} ms, max {times[-1]:.1f} ms")
    await forgotten(server, report, name)
    closes = server.metrics().closes()
    report.figure("closed", {reason: count - closes_before.get(reason, 0) for reason, count in closes.items()})
    report.figure("resident", f"{server.resident_bytes() / 1e6:.1f} MB")
    report.check("YES" in last, f"{name}: slowhttptest finds the service available")


async def forgotten(server: Server, report: Report, name: str):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if server.metrics().sum("longwire_connections") <= 1:
            return
        await asyncio.sleep(0.2)
    left = server.metrics().sum("longwire_connections")
    report.check(False, f"{name}: all connections are forgotten, {left} are left")


async def attacks(server: Server, options, report: Report):
    every = ["-i", "5"]
    await under(server, options, report, "slow heads", "-H", *every, "-u", "BASE/health")
    await under(server, options, report, "slow bodies", "-B", *every, "-s", "8192", "-u", "BASE/channels/slow")
    read = ["-X", "-n", "5", "-z", "16", "-w", "64", "-y", "256", "-k", "3"]
    await under(server, options, report, "slow readers", *read, "-u", "BASE/")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=5_000)
    parser.add_argument("--seconds", type=int, default=25)
    options = parser.parse_args()
    report = Report(f"{options.connections} slow connections")
    settings = [f"http.ready_timeout_ms={TIMEOUT_MS}", f"http.body_timeout_ms={TIMEOUT_MS}"]
    settings += [f"http.keepalive_timeout_ms={TIMEOUT_MS}", "log_level=error"]
    with Server(*(argument for setting in settings for argument in ("--set", setting))) as server:
        report.figure("resident before", f"{server.resident_bytes() / 1e6:.1f} MB")
        asyncio.run(attacks(server, options, report))
        report.check(server.process.poll() is None, "the server lives")
    report.finish()


main()
