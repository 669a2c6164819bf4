#!/usr/bin/env python3
"""A clean restart with many clients connected, of the Centrifuge protocol and of three ways of the plain dialect, and
publishers at work: every client comes back to the same epoch and gets every publication exactly once, in order, and every
acknowledged publication is among them.

restart.py [--connections 20000] [--channels 200] [--publishers 20] [--pause-ms 100] [--window-ms 10000] [--workers 4]
"""

import argparse
import asyncio
import collections
import json
import multiprocessing
import tempfile
import time

from harness import TEXT, Report, Server, Subscriber, masked_frame, subscribe_many

CATCH_UP_S = 60


class Client:
    """What one client has, over all its connections."""

    def __init__(self, channel: str):
        self.channel = channel
        self.epoch = None
        self.offset = 0
        self.recovered = 0
        self.problems = []
        self.ready = None
        # When the present connection has ended.
        self.ended = None

    def stands(self, epoch: str, offset: int, recovered: bool):
        """What the server says at the begin of each connection."""
        if self.epoch is None:
            self.epoch, self.offset = epoch, offset
        elif epoch != self.epoch or not recovered:
            self.problems.append("not recovered")
            self.epoch, self.offset = epoch, offset
        if not self.ready.done():
            self.ready.set_result(None)

    def publication(self, offset: int):
        if offset != self.offset + 1:
            self.problems.append("not the next offset")
        self.offset = offset

    async def connect(self, host: str, port: int):
        self.ready = asyncio.get_running_loop().create_future()
        await self.begin(host, port)
        await self.ready


class CentrifugeClient(Client):
    async def begin(self, host: str, port: int):
        loop = asyncio.get_running_loop()
        new = lambda: Subscriber(host, port, "/connection/websocket", on_message=self.message)
        _, self.subscriber = await loop.create_connection(new, host, port)
        await self.subscriber.open
        self.ended = self.subscriber.ended
        self.say({"id": 1, "connect": {}})

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
                self.publication(message["push"]["pub"]["offset"])
            elif "error" in message:
                self.problems.append(message["error"]["message"])

    def subscribed(self, result: dict):
        self.stands(result["epoch"], result.get("offset", 0), result.get("recovered", False))
        for publication in result.get("publications", []):
            self.recovered += 1
            self.publication(publication["offset"])


class HttpClient(Client):
    """A way of the plain dialect that is a GET, or several."""

    accept = "*/*"

    async def begin(self, host: str, port: int):
        self.host = host
        self.reader, self.writer = await asyncio.open_connection(host, port)
        self.ended = asyncio.ensure_future(self.run())

    async def run(self):
        try:
            await self.listen()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        if not self.ready.done():
            self.ready.set_exception(ConnectionError("ended before it listens"))
        self.writer.close()

    async def ask(self, **query) -> dict:
        """Sends a request; gives the fields of the answer's head."""
        if self.epoch is not None:
            query["since"] = f"{self.epoch}:{self.offset}"
        text = "&".join(f"{name}={value}" for name, value in query.items())
        path = f"/channels/{self.channel}?{text}"
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: {self.host}\r\nAccept: {self.accept}\r\n\r\n".encode())
        status, *fields = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        if status.split()[1] not in ("200", "204"):
            self.problems.append(status)
            raise ConnectionError(status)
        return {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}


class LineClient(HttpClient):
    accept = "application/x-ndjson"

    async def listen(self):
        await self.ask()
        while line := await self.reader.readline():
            if line.startswith(b"{"):
                self.object(json.loads(line))

    def object(self, said: dict):
        if "subscribed" in said:
            self.stands(said["subscribed"]["epoch"], said["subscribed"]["offset"], said["subscribed"]["recovered"])
        elif "offset" in said:
            self.publication(said["offset"])


class EventClient(HttpClient):
    accept = "text/event-stream"

    async def listen(self):
        await self.ask()
        position, has_data, is_gap, is_first = None, False, False, True
        while line := await self.reader.readline():
            if line.startswith(b"id: "):
                position = line[4:].decode().strip().split(":")
            has_data |= line.startswith(b"data: ")
            is_gap |= line.startswith(b"event: longwire.gap")
            # The end of an event; that of a chunk is another.
            if line == b"\n" and position:
                epoch, offset = position[0], int(position[1])
                if is_first or is_gap:
                    self.stands(epoch, offset - has_data, not is_gap)
                if has_data and not is_gap:
                    self.publication(offset)
                position, has_data, is_gap, is_first = None, False, False, False


class PollClient(HttpClient):
    async def listen(self):
        wait_s, is_over = 0, False
        while not is_over:
            head = await self.ask(wait=wait_s)
            body = await self.reader.readexactly(int(head.get("content-length", 0)))
            page = json.loads(body) if body else {"recovered": True, "publications": []}
            epoch, offset = head["longwire-position"].split(":")
            had_position = self.epoch is not None
            if not self.ready.done() or not page["recovered"]:
                self.stands(epoch, int(offset), page["recovered"])
            for publication in page["publications"] if had_position else []:
                self.publication(publication["offset"])
            wait_s, is_over = 25, head.get("connection") == "close"


KINDS = [CentrifugeClient, LineClient, EventClient, PollClient]


def work(numbers: range, channels: int, pipe):
    """A process that has some of the clients, since one may not have files enough. It does what the pipe says."""
    asyncio.run(answer([KINDS[i % len(KINDS)](f"restart-{i // len(KINDS) % channels}") for i in numbers], pipe))


async def answer(clients: list[Client], pipe):
    while order := await asyncio.to_thread(pipe.recv):
        name, *arguments = order
        pipe.send(await globals()[name](clients, *arguments))


async def connect_all(clients: list[Client], host: str, port: int):
    await subscribe_many(len(clients), lambda i: clients[i].connect(host, port))


async def wait_for_ends(clients: list[Client]):
    await asyncio.wait([client.ended for client in clients])


async def catch_up(clients: list[Client], acknowledged: dict) -> dict:
    """Waits until everybody has what was acknowledged; says how that went, by kind of client."""
    deadline = time.monotonic() + CATCH_UP_S
    is_short = lambda client: client.offset < acknowledged.get(client.channel, 0)
    while any(map(is_short, clients)) and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    counts = collections.Counter()
    for client in clients:
        kind = type(client).__name__
        counts[f"{kind}s"] += 1
        counts[f"{kind}s that lack acknowledged publications"] += is_short(client)
        for problem in client.problems:
            counts[f"{kind}: {problem}"] += 1
    return counts


class Workers:
    def __init__(self, options):
        self.pipes = []
        share = -(-options.connections // options.workers)
        for i in range(options.workers):
            own, theirs = multiprocessing.Pipe()
            numbers = range(i * share, min((i + 1) * share, options.connections))
            multiprocessing.Process(target=work, args=(numbers, options.channels, theirs), daemon=True).start()
            self.pipes.append(own)

    async def all(self, *order) -> list:
        for pipe in self.pipes:
            pipe.send(order)
        return [await asyncio.to_thread(pipe.recv) for pipe in self.pipes]

    def stop(self):
        for pipe in self.pipes:
            pipe.send(None)


async def publish(server: Server, number: int, options, acknowledged: dict):
    """Publishes until the server is gone; notes the newest offset acknowledged by channel."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        for i in range(1 << 60):
            channel = f"restart-{(number + i) % options.channels}"
            body = json.dumps({"from": number, "i": i})
            head = f"POST /channels/{channel} HTTP/1.1\r\nHost: {server.host}\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write((head + body).encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            length = next(int(l.split(b":")[1]) for l in answer.split(b"\r\n") if l.lower().startswith(b"content-length"))
            body = await reader.readexactly(length)
            if answer.startswith(b"HTTP/1.1 200 "):
                acknowledged[channel] = max(acknowledged.get(channel, 0), json.loads(body)["offset"])
            await asyncio.sleep(options.pause_ms / 1000)
    except (ConnectionError, asyncio.IncompleteReadError):
        writer.close()


async def before(server: Server, workers: Workers, options, report: Report, acknowledged: dict):
    began = time.monotonic()
    await workers.all("connect_all", server.host, server.port)
    report.figure("connected", f"{options.connections} in {time.monotonic() - began:.1f} s")
    publishers = [asyncio.ensure_future(publish(server, i, options, acknowledged)) for i in range(options.publishers)]
    await asyncio.sleep(5)
    report.figure("acknowledged before the signal", sum(acknowledged.values()))
    server.terminate()
    await asyncio.gather(*publishers)
    await workers.all("wait_for_ends")


async def restart(options, config: str, workers: Workers, report: Report):
    acknowledged = {}
    started = time.monotonic()
    with Server("--config", config) as server:
        await before(server, workers, options, report, acknowledged)
        code = await asyncio.to_thread(server.process.wait, options.window_ms / 1000 + 60)
    report.figure("first server", f"{time.monotonic() - started:.1f} s, exit {code}")
    report.check(code == 0, "exit code 0")
    began = time.monotonic()
    with Server("--config", config) as server:
        report.figure("serves again after", f"{time.monotonic() - began:.2f} s")
        await workers.all("connect_all", server.host, server.port)
        report.figure("everybody is back after", f"{time.monotonic() - began:.1f} s")
        counts = sum(await workers.all("catch_up", acknowledged), collections.Counter())
    report.figure("acknowledged in all", sum(acknowledged.values()))
    kinds = [f"{kind.__name__}s" for kind in KINDS]
    report.figure("clients", ", ".join(f"{counts.pop(kind, 0)} {kind}" for kind in kinds))
    problems = {what: count for what, count in counts.items() if count}
    report.check(not problems, f"the same epoch, no gap, nothing missing: {problems}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=20_000)
    parser.add_argument("--channels", type=int, default=200)
    parser.add_argument("--publishers", type=int, default=20)
    parser.add_argument("--pause-ms", type=int, default=100)
    parser.add_argument("--window-ms", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=4)
    options = parser.parse_args()
    report = Report(f"restart with {options.connections} clients")
    workers = Workers(options)
    with tempfile.TemporaryDirectory() as folder:
        config = f"{folder}/longwire.toml"
        with open(config, "w") as file:
            file.write(f"""
state_dir = "{folder}/state"
[client]
insecure = true
recovery_max_publication_limit = 100000
[drain]
window_ms = {options.window_ms}
[channel.without_namespace]
history_size = 100000
history_ttl = "10m"
force_recovery = true
""")
        asyncio.run(restart(options, config, workers, report))
    workers.stop()
    report.finish()


if __name__ == "__main__":
    main()
