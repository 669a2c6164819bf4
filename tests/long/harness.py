"""What the long tests share: the server as a process, its figures, and a WebSocket client of a few lines."""

import asyncio
import http.client
import os
import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BINARY = os.environ.get("LONGWIRE_BIN", str(ROOT / "target/release/longwire"))
KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 1.3
TEXT, BINARY_FRAME, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Server:
    """Starts the release server, by default on a free loopback port."""

    def __init__(self, *args: str, listen: str = "127.0.0.1:0"):
        command = [BINARY, "--listen", listen, *args]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LONGWIRE_")}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        for line in self.process.stdout:
            if line.startswith("listening on "):
                self.host, port = line.split()[-1].rsplit(":", 1)
                self.port = int(port)
                return
        sys.exit(f"FAILED: the server does not serve, exit {self.process.wait()}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def metrics(self) -> "Metrics":
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        connection.request("GET", "/metrics", headers={"Connection": "close"})
        text = connection.getresponse().read().decode()
        connection.close()
        return Metrics(text)

    def resident_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


class Metrics:
    def __init__(self, text: str):
        self.lines = [line for line in text.splitlines() if line and not line.startswith("#")]

    def sum(self, name: str, **labels: str) -> float:
        """The sum over all samples of this name that have these labels."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in self.lines
            if re.match(name + r"[ {]", line) and all(label in line for label in wanted)
        )

    def closes(self) -> dict[str, int]:
        """Closed connections by reason."""
        reasons = {r for line in self.lines for r in re.findall(r'^longwire_closes_total.*reason="(\w+)"', line)}
        counts = {reason: int(self.sum("longwire_closes_total", reason=reason)) for reason in reasons}
        return {reason: count for reason, count in sorted(counts.items()) if count}


def upgrade_request(host: str, port: int, path: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def masked_frame(opcode: int, payload: bytes) -> bytes:
    """A control frame of a client; the masking key is zero, so masking changes nothing."""
    return bytes([0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload


def take_frame(buffer: bytearray):
    """Takes one whole frame of the server from the front, as (opcode, payload), or None if there is none yet."""
    if len(buffer) < 2:
        return None
    first, length, header = buffer[0], buffer[1], 2
    if not first & 0x80 or first & 0x70 or length & 0x80:
        raise ValueError(f"not a frame of this server: {bytes(buffer[:14]).hex()}")
    if length == 126:
        header = 4
    elif length == 127:
        header = 10
    if len(buffer) < header:
        return None
    if header > 2:
        length = int.from_bytes(buffer[2:header], "big")
    if len(buffer) < header + length:
        return None
    payload = bytes(buffer[header : header + length])
    del buffer[: header + length]
    return first & 0x0F, payload


class Subscriber(asyncio.Protocol):
    """Reads all that comes and answers pings, and a Close unless told to be mute. `on_message(payload)` gets the messages."""

    def __init__(self, host: str, port: int, path: str, on_message=None, answers_close=True):
        self.request = upgrade_request(host, port, path)
        self.on_message = on_message or (lambda payload: None)
        self.answers_close = answers_close
        self.buffer = bytearray()
        self.open = asyncio.get_running_loop().create_future()
        self.ended = asyncio.get_running_loop().create_future()
        self.close_code = None
        self.close_at = None
        self.problem = None

    def connection_made(self, transport):
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data):
        self.buffer += data
        try:
            if not self.open.done():
                self.handshake()
            while self.open.done() and (frame := take_frame(self.buffer)):
                self.frame(*frame)
        except ValueError as error:
            self.problem = self.problem or str(error)
            self.transport.abort()

    def handshake(self):
        head, separator, rest = self.buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        if not head.startswith(b"HTTP/1.1 101 "):
            raise ValueError(f"refused: {head[:60]!r}")
        self.buffer = rest
        self.open.set_result(None)

    def frame(self, opcode: int, payload: bytes):
        if self.close_code is not None:
            raise ValueError("a frame after the Close")
        if opcode == PING:
            self.transport.write(masked_frame(PONG, payload))
        elif opcode == CLOSE:
            self.close_code = struct.unpack(">H", payload[:2])[0] if payload else 1005
            self.close_at = time.monotonic()
            if self.answers_close:
                self.transport.write(masked_frame(CLOSE, payload[:2]))
        elif opcode in (TEXT, BINARY_FRAME):
            self.on_message(payload)
        else:
            raise ValueError(f"opcode {opcode}")

    def connection_lost(self, error):
        if self.buffer and not self.problem:
            self.problem = f"cut within a frame, {len(self.buffer)} bytes in"
        if not self.open.done():
            self.open.set_exception(ConnectionError(self.problem or "ended in the handshake"))
        self.ended.set_result(error)


async def subscribe(host: str, port: int, path: str, **options) -> Subscriber:
    loop = asyncio.get_running_loop()
    _, subscriber = await loop.create_connection(lambda: Subscriber(host, port, path, **options), host, port)
    await subscriber.open
    return subscriber


async def subscribe_many(count: int, connect) -> list[Subscriber]:
    """`connect(i)` for each i below count, 200 at a time."""
    gate = asyncio.Semaphore(200)

    async def one(i):
        async with gate:
            return await connect(i)

    return await asyncio.gather(*(one(i) for i in range(count)))


class Report:
    """Prints figures as they come and one last line, `ok NAME` or `FAILED NAME: reasons`."""

    def __init__(self, name: str):
        self.name = name
        self.failures = []

    def figure(self, what: str, value):
        print(f"  {what}: {value}", flush=True)

    def check(self, holds: bool, what: str):
        if not holds:
            self.failures.append(what)
            print(f"  does not hold: {what}", flush=True)

    def finish(self):
        if self.failures:
            print(f"FAILED {self.name}: {'; '.join(self.failures)}")
            sys.exit(1)
        print(f"ok {self.name}")
