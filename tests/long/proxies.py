"""What tests/long/proxies.sh runs in a network namespace of its own: the server behind each proxy."""

import asyncio
import http.client
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import transports
from harness import ROOT, Report, Server, Subscriber, upgrade_request

SAMPLES = ROOT / "tuning/proxies"
PLAIN_PORT, PROXIED_PORT = 8000, 8001
PROXY_PORT = 80
CLIENT, OTHER_CLIENT = "203.0.113.7", "203.0.113.8"
KEY = {"X-API-Key": "test"}
# In place of the 75 s of the samples, which the heartbeat must be below and is not without one.
PROXY_TIMEOUT_S = 4
HOLD_S = 3.5 * PROXY_TIMEOUT_S
HEARTBEAT_MS = 1_000
NO_HEARTBEAT_MS = 600_000
PLACES_PER_ADDRESS = 3
PUBLICATIONS = 200
PATIENCE_S = 30


class Proxy:
    """One proxy with one sample configuration, its time-out shortened."""

    def __init__(self, name: str, command, wrap=lambda sample: sample):
        self.name = name
        self.command = command
        self.wrap = wrap

    def __enter__(self):
        self.directory = tempfile.mkdtemp(prefix="longwire-proxy-")
        # nginx's workers are another user's.
        Path(self.directory).chmod(0o755)
        sample = (SAMPLES / self.name).read_text()
        shortened, count = re.subn(r"\b75s", f"{PROXY_TIMEOUT_S}s", sample)
        assert count > 0, "the sample has no such time-out"
        config = Path(self.directory) / "proxy.conf"
        config.write_text(self.wrap(shortened))
        self.log = open(Path(self.directory) / "log", "w+")
        command = self.command(str(config), self.directory)
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and self.process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", PROXY_PORT)) == 0:
                    return self
            time.sleep(0.05)
        self.log.seek(0)
        sys.exit(f"FAILED {self.name}: it does not serve: {self.log.read()}")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.directory)


def nginx(name: str, defaults: str = "") -> Proxy:
    def wrap(sample: str) -> str:
        return (
            "worker_processes 1; pid nginx.pid; error_log stderr; daemon off;\n"
            "events { worker_connections 1024; }\n"
            f"http {{ access_log off; {defaults}\n{sample}\n}}\n"
        )

    return Proxy(name, lambda config, directory: ["nginx", "-p", directory, "-c", config, "-e", "stderr"], wrap)


def haproxy(name: str) -> Proxy:
    # Two descriptors a connection, of which a test machine may have few.
    wrap = lambda sample: sample.replace("maxconn 20000", "maxconn 2000")
    return Proxy(name, lambda config, _: ["haproxy", "-db", "-f", config], wrap)


PROXIES = [
    nginx("nginx-before-1.29.7.conf"),
    # Debian's is older: it gets what has become a default as a line of its own.
    nginx("nginx-1.29.7.conf", defaults="proxy_http_version 1.1;"),
    haproxy("haproxy.cfg"),
]


def wait_for_port(port: int):
    """The kernel takes the rings of a killed server apart after its end, and its listeners with them."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                return probe.bind(("127.0.0.1", port))
            except OSError:
                time.sleep(0.05)
    sys.exit(f"FAILED: port {port} is in use")


def serve(ping_interval_ms: int, *more: str, places: int = PLACES_PER_ADDRESS) -> Server:
    wait_for_port(PLAIN_PORT)
    wait_for_port(PROXIED_PORT)
    settings = [
        f"proxy_protocol_listen=127.0.0.1:{PROXIED_PORT}",
        "trusted_proxies=127.0.0.1",
        "api_keys=test",
        f"admission.connections_per_address={places}",
        f"heartbeat.ping_interval_ms={ping_interval_ms}",
        "heartbeat.pong_timeout_ms=1000",
        *more,
    ]
    arguments = (argument for setting in settings for argument in ("--set", setting))
    return Server(*arguments, listen=f"127.0.0.1:{PLAIN_PORT}")


async def subscribe(client: str, **options) -> Subscriber:
    loop = asyncio.get_running_loop()
    make = lambda: Subscriber("127.0.0.1", PROXY_PORT, "/channels/demo", **options)
    _, subscriber = await loop.create_connection(make, "127.0.0.1", PROXY_PORT, local_addr=(client, 0))
    await asyncio.wait_for(subscriber.open, PATIENCE_S)
    return subscriber


def publish(connection: http.client.HTTPConnection, body: str) -> int:
    connection.request("POST", "/channels/demo", body, KEY)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def connect(client: str) -> http.client.HTTPConnection:
    address = (client, 0)
    return http.client.HTTPConnection("127.0.0.1", PROXY_PORT, timeout=PATIENCE_S, source_address=address)


async def outlives_the_timeout(report: Report, proxy: Proxy):
    messages = asyncio.Queue()
    subscriber = await subscribe(CLIENT, on_message=messages.put_nowait)
    await asyncio.sleep(HOLD_S)
    connection = connect(OTHER_CLIENT)
    status = await asyncio.to_thread(publish, connection, "still here")
    connection.close()
    report.check(status == 200, f"{proxy.name}: publishing answers {status}")
    try:
        message = await asyncio.wait_for(messages.get(), PATIENCE_S)
    except asyncio.TimeoutError:
        message = None
    report.check(message == b"still here", f"{proxy.name}: a WebSocket outlives the time-out with heartbeats")
    subscriber.transport.abort()


def keeps_connections(report: Report, proxy: Proxy, server: Server):
    accepts = "longwire_accepts_total"
    before = server.metrics().sum(accepts)
    connection = connect(OTHER_CLIENT)
    statuses = {publish(connection, f"publication {i}") for i in range(PUBLICATIONS)}
    connection.close()
    opened = server.metrics().sum(accepts) - before - 1
    report.figure(f"{proxy.name}: connections for {PUBLICATIONS} publications", int(opened))
    report.check(statuses == {200}, f"{proxy.name}: every publication is taken: {statuses}")
    # HAProxy's health checks come from time to time.
    report.check(opened <= 10, f"{proxy.name}: connections to the server are kept")


async def knows_clients(report: Report, proxy: Proxy):
    held = [await subscribe(CLIENT) for _ in range(PLACES_PER_ADDRESS)]
    status = await asyncio.to_thread(refusal, CLIENT)
    report.check(status in (429, 503), f"{proxy.name}: one more of the same address is refused: {status}")
    # What a client says of itself does not make it another.
    claim = "X-Forwarded-For: 198.51.100.1\r\n"
    status = await asyncio.to_thread(refusal, CLIENT, claim)
    report.check(status in (429, 503), f"{proxy.name}: a claim to be another is not believed: {status}")
    held.append(await subscribe(OTHER_CLIENT))
    for subscriber in held:
        subscriber.transport.abort()


def refusal(client: str, line: str = "") -> int:
    """The status that an upgrade is answered with."""
    request = upgrade_request("127.0.0.1", PROXY_PORT, "/channels/demo")
    request = request[:-2] + line.encode() + b"\r\n"
    with socket.create_connection(("127.0.0.1", PROXY_PORT), PATIENCE_S, (client, 0)) as stream:
        stream.sendall(request)
        return int(stream.recv(4096).split()[1])


def passes_no_other_upgrade(report: Report, proxy: Proxy):
    with socket.create_connection(("127.0.0.1", PROXY_PORT), PATIENCE_S, (CLIENT, 0)) as stream:
        stream.sendall(
            b"GET /health HTTP/1.1\r\nHost: push.example.com\r\nConnection: Upgrade, HTTP2-Settings\r\n"
            b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
        )
        status = int(stream.recv(4096).split()[1])
    report.check(status == 200, f"{proxy.name}: h2c is ignored: {status}")


async def every_way_outlives_the_timeout(report: Report, proxy: Proxy):
    async def publish_mark():
        connection = connect(OTHER_CLIENT)
        await asyncio.to_thread(publish, connection, json.dumps(transports.MARK.decode()))
        connection.close()

    place = ("127.0.0.1", PROXY_PORT, CLIENT)
    problems = await transports.listen_all(place, HOLD_S, publish_mark)
    for way in transports.WAYS:
        report.check(way not in problems, f"{proxy.name}: {way} outlives the time-out: {problems.get(way)}")
    report.figure(f"{proxy.name}: ways that outlive {PROXY_TIMEOUT_S} s for {HOLD_S} s", f"{len(transports.WAYS) - len(problems)} of {len(transports.WAYS)}")


async def is_cut_without_heartbeat(report: Report, proxy: Proxy):
    subscriber = await subscribe(CLIENT)
    try:
        await asyncio.wait_for(subscriber.ended, PATIENCE_S)
    except asyncio.TimeoutError:
        report.check(False, f"{proxy.name}: without heartbeats the time-out ends a WebSocket")


def main():
    report = Report("behind proxies")
    for proxy in PROXIES:
        with serve(HEARTBEAT_MS) as server, proxy:
            asyncio.run(outlives_the_timeout(report, proxy))
            keeps_connections(report, proxy, server)
            asyncio.run(knows_clients(report, proxy))
            passes_no_other_upgrade(report, proxy)
        with serve(HEARTBEAT_MS, *transports.SETTINGS, places=1_000), proxy:
            asyncio.run(every_way_outlives_the_timeout(report, proxy))
        # That the time-out was really outlived shows where it is not.
        with serve(NO_HEARTBEAT_MS), proxy:
            asyncio.run(is_cut_without_heartbeat(report, proxy))
    report.finish()


main()
