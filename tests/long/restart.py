#!/usr/bin/env python3
"""A clean restart with many Centrifuge clients connected and publishers at work: every client comes back to the same
epoch and gets every publication exactly once, in order, and every acknowledged publication is among them.

restart.py [--connections 19000] [--channels 200] [--publishers 20] [--window-ms 10000]
"""

import argparse
import asyncio
import collections
import json
import tempfile
import time

from harness import TEXT, Report, Server, Subscriber, masked_frame, subscribe_many


class Client:
    """What one client has, over all its connections."""

    def __init__(self, channel: str):
        self.channel = channel
        self.epoch = None
        self.offset = 0
        self.recovered = 0
        self.problems = []
        self.ready = None
        self.subscriber = None

    async def connect(self, host: str, port: int):
        loop = asyncio.get_running_loop()
        self.ready = loop.create_future()
        new = lambda: Subscriber(host, port, "/connection/websocket", on_message=self.message)
        _, self.subscriber = await loop.create_connection(new, host, port)
        await self.subscriber.open
        self.say({"id": 1, "connect": {}})
        await self.ready
        return self

    def say(self, command: dict):
        payload = json.dumps(command, separators=(",", ":")).encode()
        self.subscriber.transport.write(masked_frame(TEXT, payload))

    def message(self, payload: bytes):
        for line in payload.splitlines():
            message = json.loads(line)
            if not message:
                self.say({})
            elif "connect" in message:
                wish = {"channel": self.channel}
                if self.epoch is not None:
                    wish |= {"recover": True, "epoch": self.epoch, "offset": self.offset}
                self.say({"id": 2, "subscribe": wish})
            elif "subscribe" in message:
                self.subscribed(message["subscribe"])
            elif "pub" in message.get("push", {}):
                self.publication(message["push"]["pub"])
            elif "error" in message:
                self.problems.append(message["error"]["message"])

    def subscribed(self, result: dict):
        if self.epoch is None:
            self.epoch, self.offset = result["epoch"], result.get("offset", 0)
        else:
            if not result.get("recovered") or result["epoch"] != self.epoch:
                self.problems.append("not recovered")
            self.recovered = len(result.get("publications", []))
            for publication in result.get("publications", []):
                self.publication(publication)
        self.ready.set_result(None)

    def publication(self, publication: dict):
        if publication["offset"] != self.offset + 1:
            self.problems.append("not the next offset")
        self.offset = publication["offset"]


async def publish(server: Server, number: int, channels: int, acknowledged: dict):
    """Publishes until the server is gone; notes the newest offset acknowledged by channel."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        for i in range(1 << 60):
            channel = f"restart-{(number + i) % channels}"
            body = json.dumps({"from": number, "i": i})
            head = f"POST /channels/{channel} HTTP/1.1\r\nHost: {server.host}\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write((head + body).encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            length = next(int(l.split(b":")[1]) for l in answer.split(b"\r\n") if l.lower().startswith(b"content-length"))
            body = await reader.readexactly(length)
            if answer.startswith(b"HTTP/1.1 200 "):
                acknowledged[channel] = max(acknowledged[channel], json.loads(body)["offset"])
            await asyncio.sleep(0.01)
    except (ConnectionError, asyncio.IncompleteReadError):
        writer.close()


async def before(server: Server, options, acknowledged: dict) -> list[Client]:
    clients = [Client(f"restart-{i % options.channels}") for i in range(options.connections)]
    await subscribe_many(len(clients), lambda i: clients[i].connect(server.host, server.port))
    publishers = [publish(server, i, options.channels, acknowledged) for i in range(options.publishers)]
    publishers = [asyncio.ensure_future(publisher) for publisher in publishers]
    await asyncio.sleep(5)
    server.terminate()
    await asyncio.gather(*publishers)
    await asyncio.wait([client.subscriber.ended for client in clients])
    return clients


async def restart(options, config: str, report: Report):
    acknowledged = collections.defaultdict(int)
    started = time.monotonic()
    with Server("--config", config) as server:
        clients = await before(server, options, acknowledged)
        code = await asyncio.to_thread(server.process.wait, options.window_ms / 1000 + 60)
    report.figure("first server", f"{time.monotonic() - started:.1f} s, exit {code}")
    report.check(code == 0, "exit code 0")
    began = time.monotonic()
    with Server("--config", config) as server:
        report.figure("serves again after", f"{time.monotonic() - began:.2f} s")
        await subscribe_many(len(clients), lambda i: clients[i].connect(server.host, server.port))
        report.figure("everybody is back after", f"{time.monotonic() - began:.1f} s")
        problems = collections.Counter(problem for client in clients for problem in client.problems)
        short = [c for c in clients if c.offset < acknowledged[c.channel]]
        report.figure("acknowledged", sum(acknowledged.values()))
        report.figure("recovered", sum(client.recovered for client in clients))
        report.check(not problems, f"the same epoch, no gap: {dict(problems)}")
        report.check(not short, f"{len(short)} clients lack acknowledged publications")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=19_000)
    parser.add_argument("--channels", type=int, default=200)
    parser.add_argument("--publishers", type=int, default=20)
    parser.add_argument("--window-ms", type=int, default=10_000)
    options = parser.parse_args()
    report = Report(f"restart with {options.connections} clients")
    with tempfile.TemporaryDirectory() as folder:
        config = f"{folder}/longwire.toml"
        with open(config, "w") as file:
            file.write(f"""
state_dir = "{folder}/state"
[client]
insecure = true
[drain]
window_ms = {options.window_ms}
[channel.without_namespace]
history_size = 100000
history_ttl = "10m"
force_recovery = true
""")
        asyncio.run(restart(options, config, report))
    report.finish()


main()
