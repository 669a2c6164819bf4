#!/usr/bin/env python3
"""Subscribers that never read among some that do, while a channel gets 100 KiB/s: the former are closed and counted, the
latter lose nothing, and the server holds no more for the former than it says.

slow_readers.py [--stopped 10] [--readers 100] [--seconds 60]
"""

import argparse
import asyncio
import http.client
import re
import socket
import subprocess
import threading
import time

from harness import CLOSE, PING, TEXT, Report, Server, subscribe, subscribe_many, take_frame, upgrade_request

BODY_BYTES = 1024
MESSAGES_PER_S = 100
# Traffic before the ones that never read arrive: the server's memory with the readers alone.
WARM_UP_S = 5
# What the server may hold for one connection: outbox.hard_bytes, its default.
OUTBOX_HARD_BYTES = 262_144


def body(n: int) -> bytes:
    """Publication n: its number, then a letter that differs from one publication to the next."""
    return b"%010d" % n + bytes([ord("a") + n % 26]) * (BODY_BYTES - 10)


class Publisher(threading.Thread):
    """Publishes 0, 1, 2, … on a fixed schedule for so many seconds; refused ones again until they are taken."""

    def __init__(self, server: Server, seconds: float):
        super().__init__()
        self.server = server
        self.total = int(seconds * MESSAGES_PER_S)
        self.published = 0
        self.refused = 0
        self.problem = None

    def run(self):
        try:
            self.publish_all()
        except (OSError, http.client.HTTPException) as error:
            self.problem = f"publisher: {error!r}"

    def publish_all(self):
        connection = http.client.HTTPConnection(self.server.host, self.server.port, timeout=30)
        started = time.monotonic()
        while self.published < self.total:
            time.sleep(max(0, started + self.published / MESSAGES_PER_S - time.monotonic()))
            connection.request("POST", "/channels/slow", body(self.published))
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                self.published += 1
            elif answer.status == 503:
                self.refused += 1
                time.sleep(0.05)
            else:
                raise http.client.HTTPException(f"status {answer.status}")
        self.took_s = time.monotonic() - started


class Reader:
    """Checks that publications come in order without a gap."""

    def __init__(self, first: int):
        self.next = first

    def on_message(self, payload: bytes):
        if payload != body(self.next):
            raise ValueError(f"expected publication {self.next}, got {payload[:20]!r}")
        self.next += 1


class Stopped:
    """Subscribes on a plain socket and does not read until asked to."""

    def __init__(self, server: Server):
        self.socket = socket.create_connection((server.host, server.port), timeout=30)
        self.socket.sendall(upgrade_request(server.host, server.port, "/channels/slow"))
        self.port = self.socket.getsockname()[1]

    def read_backlog(self) -> str:
        """Reads to the end: what was there, as one line; raises ValueError if it was not whole frames in order."""
        buffer, ended = bytearray(), "EOF"
        try:
            while data := self.socket.recv(65536):
                buffer += data
        except ConnectionResetError:
            ended = "reset"
        total = len(buffer)
        head, _, buffer = buffer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101 "):
            raise ValueError(f"refused: {head[:60]!r}")
        reader, messages, close = None, 0, ""
        while frame := take_frame(buffer):
            opcode, payload = frame
            if close:
                raise ValueError("a frame after the Close")
            if opcode == TEXT:
                reader = reader or Reader(int(payload[:10]))
                reader.on_message(payload)
                messages += 1
            elif opcode == CLOSE:
                close = f"Close {int.from_bytes(payload[:2], 'big')}, "
            elif opcode != PING:
                raise ValueError(f"opcode {opcode}")
        if buffer and close:
            raise ValueError("bytes after the Close")
        return f"{total} bytes, {messages} whole messages, {close}{len(buffer)} bytes of a cut one, {ended}"


def kernel_bytes(server: Server, stopped: list[Stopped]) -> int:
    """Socket memory on the server's side of these connections: queues, reserve and options, from `ss -m`."""
    ports = {s.port for s in stopped}
    command = ["ss", "-tnmHO", "state", "connected", f"( sport = :{server.port} )"]
    total = 0
    for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
        peer = line.split()[4]
        memory = re.search(r"skmem:\(r(\d+),rb\d+,t\d+,tb\d+,f(\d+),w(\d+),o(\d+),bl(\d+)", line)
        if memory and int(peer.rsplit(":", 1)[1]) in ports:
            total += sum(map(int, memory.groups()))
    return total


def closed_as_slow(server: Server) -> float:
    metrics = server.metrics()
    reasons = ("slow_consumer", "write_stall")
    return sum(metrics.sum("longwire_closes_total", reason=reason) for reason in reasons)


class Peak:
    """Samples the server's memory and remembers the most."""

    def __init__(self, server: Server, stopped: list[Stopped]):
        self.server, self.stopped = server, stopped
        self.resident = self.kernel = self.sum = 0
        self.before = server.resident_bytes()

    def sample(self):
        resident = self.server.resident_bytes() - self.before
        kernel = kernel_bytes(self.server, self.stopped)
        self.resident = max(self.resident, resident)
        self.kernel = max(self.kernel, kernel)
        self.sum = max(self.sum, resident + kernel)


async def run(server: Server, options, report: Report):
    readers = [Reader(0) for _ in range(options.readers)]
    subscribers = await subscribe_many(
        options.readers,
        lambda i: subscribe(server.host, server.port, "/channels/slow", on_message=readers[i].on_message),
    )
    publisher = Publisher(server, WARM_UP_S + options.seconds)
    publisher.start()
    await asyncio.sleep(WARM_UP_S)
    stopped = [Stopped(server) for _ in range(options.stopped)]
    arrived = time.monotonic()
    peak = Peak(server, stopped)
    all_closed_s = None
    while publisher.is_alive():
        await asyncio.to_thread(peak.sample)
        if all_closed_s is None and await asyncio.to_thread(closed_as_slow, server) >= options.stopped:
            all_closed_s = time.monotonic() - arrived
        await asyncio.sleep(0.2)
    deadline = time.monotonic() + 30
    while any(r.next < publisher.published for r in readers) and time.monotonic() < deadline:
        await asyncio.sleep(0.1)

    bound = options.stopped * OUTBOX_HARD_BYTES
    rate = publisher.published * BODY_BYTES / 1024 / publisher.took_s if not publisher.problem else 0
    report.figure("published", f"{publisher.published} of {BODY_BYTES} bytes, {rate:.1f} KiB/s, {publisher.refused} refused")
    report.figure("all that never read were closed after", f"{all_closed_s or float('nan'):.1f} s")
    report.figure("closes", (await asyncio.to_thread(server.metrics)).closes())
    report.figure("server's resident memory with the readers alone", f"{peak.before:,} bytes")
    report.figure("most above that", f"{peak.resident:,} bytes")
    report.figure("most socket memory of those that never read", f"{peak.kernel:,} bytes")
    report.figure("most of both", f"{peak.sum:,} bytes, allowed {bound:,}")

    problems = {s.problem for s in subscribers if s.problem}
    lost = sum(publisher.published - reader.next for reader in readers)
    report.check(not publisher.problem, str(publisher.problem))
    report.check(closed_as_slow(server) == options.stopped, f"{options.stopped} closed as slow_consumer or write_stall")
    report.check(not problems, f"readers get everything in order: {problems}")
    report.check(lost == 0, f"readers lose nothing, {lost} missing")
    report.check(not any(s.ended.done() for s in subscribers), "readers stay connected")
    report.check(peak.sum <= bound, "memory below the documented bound for each that never read")
    check_backlogs(stopped, report)


def check_backlogs(stopped: list[Stopped], report: Report):
    for one in stopped:
        try:
            report.figure(f"in the connection from port {one.port}", one.read_backlog())
        except (ValueError, OSError) as error:
            report.check(False, f"whole frames, then the end: {error}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stopped", type=int, default=10)
    parser.add_argument("--readers", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    report = Report(f"{options.stopped} that never read among {options.readers} that do")
    with Server() as server:
        asyncio.run(run(server, options, report))
    report.finish()


main()
