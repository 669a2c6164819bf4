"""A listener for every way to listen, each over a connection (or polls) that must last, through whatever is on the way.

Each of WAYS is a coroutine that listens to `demo` until it hears MARK, calling `ready` once it does listen.
"""

import asyncio
import json
import re
from urllib.parse import quote

from harness import BINARY_FRAME, CLOSE, PING, TEXT, masked_frame, take_frame, upgrade_request

MARK = b"still here"
SETTINGS = [
    "client.insecure=true",
    "client.ping_interval=3s",
    "client.pong_timeout=2s",
    "channel.without_namespace.history_size=100",
    "channel.without_namespace.history_ttl=60s",
    *(f"{carrier}.enabled=true" for carrier in ("http_stream", "sse", "uni_sse", "uni_http_stream", "uni_websocket", "sockjs")),
]
CONNECT = '{"id":1,"connect":{}}'
SUBSCRIBE = '{"id":2,"subscribe":{"channel":"demo"}}'
UNI_CONNECT = '{"subs":{"demo":{}}}'


class Ended(Exception):
    """The connection ended before what was waited for."""


class Connection:
    """One connection to `host`:`port` from the address `client`."""

    def __init__(self, place):
        self.host, self.port, self.client = place

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection(self.host, self.port, local_addr=(self.client, 0))
        return self

    async def __aexit__(self, *_):
        self.writer.close()

    async def begin(self, method: str, path: str, accept: str = "*/*", body: str = "") -> dict:
        """Sends a request; gives the head of its answer."""
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nAccept: {accept}\r\n"
        length = f"Content-Length: {len(body)}\r\n" if method == "POST" else ""
        self.writer.write(f"{head}{length}\r\n{body}".encode())
        return await self.head()

    async def head(self) -> dict:
        try:
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            raise Ended("no answer")
        fields = (line.split(": ", 1) for line in lines[1:] if line)
        return {"status": int(lines[0].split()[1])} | {name.lower(): value for name, value in fields}

    async def chunk(self) -> bytes:
        try:
            size = int(await self.reader.readline() or b"0", 16)
            return (await self.reader.readexactly(size + 2))[:size]
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""

    async def ask(self, method: str, path: str, **request) -> tuple[dict, bytes]:
        """A request and its whole answer."""
        head = await self.begin(method, path, **request)
        if head["status"] in (204, 304):
            return head, b""
        if head.get("transfer-encoding") != "chunked":
            return head, await self.reader.readexactly(int(head["content-length"]))
        whole = b""
        while chunk := await self.chunk():
            whole += chunk
        return head, whole


def check(head: dict, *statuses: int):
    if head["status"] not in statuses:
        raise Ended(f"answered {head['status']}")


async def stream(place, ready, request: dict, on_text=None):
    """An answer that goes on."""
    async with Connection(place) as connection:
        check(await connection.begin(**request), 200)
        ready()
        text = b""
        while MARK not in text:
            chunk = await connection.chunk()
            if not chunk:
                raise Ended("the stream ended")
            text += chunk
            if on_text:
                await on_text(text, chunk)


def plain(accept: str):
    return lambda place, ready: stream(place, ready, {"method": "GET", "path": "/channels/demo", "accept": accept})


def poll(wait_s: int, rest_s: float):
    """Polls of `wait_s` seconds, over one connection as long as there is one."""

    async def listen(place, ready):
        head, body = {}, b""
        async with Connection(place) as connection:
            while MARK not in body:
                since = head.get("longwire-position", "")
                path = f"/channels/demo?wait={wait_s if since else 0}" + (f"&since={since}" if since else "")
                head, body = await connection.ask("GET", path)
                check(head, 200, 204)
                ready()
                await asyncio.sleep(rest_s)

    return listen


def emulated(method: str, path: str):
    """A bidirectional stream of the Centrifuge protocol, whose pongs go by posts."""

    async def listen(place, ready):
        async with Connection(place) as posts:

            async def answer(text: bytes, chunk: bytes):
                if not re.search(rb"(^|\n|data: ){}", chunk):
                    return
                session, node = (re.search(rb'"%s":"([^"]+)"' % name, text)[1].decode() for name in (b"session", b"node"))
                pong = json.dumps({"session": session, "node": node, "data": "{}"})
                check((await posts.ask("POST", "/emulation", body=pong))[0], 204)

            commands = f"{CONNECT}\n{SUBSCRIBE}"
            request = {"path": path, "body": commands} if method == "POST" else {"path": f"{path}?cf_connect={quote(commands)}"}
            await stream(place, ready, {"method": method, **request}, answer)

    return listen


def websocket(path: str, first: str = "", pong: str = ""):
    """A WebSocket that says `first`, and answers pings that are messages with `pong`."""

    async def listen(place, ready):
        async with Connection(place) as connection:
            connection.writer.write(upgrade_request(connection.host, connection.port, path))
            check(await connection.head(), 101)
            if first:
                connection.writer.write(masked_frame(TEXT, first.encode()))
            ready()
            buffer = bytearray()
            while True:
                while frame := take_frame(buffer):
                    opcode, payload = frame
                    if opcode in (TEXT, BINARY_FRAME) and MARK in payload:
                        return
                    if opcode == CLOSE:
                        raise Ended(f"closed: {payload!r}")
                    if opcode == PING:
                        connection.writer.write(masked_frame(10, payload))
                    elif pong and payload in (b"{}", b'a["{}"]'):
                        connection.writer.write(masked_frame(TEXT, pong.encode()))
                data = await connection.reader.read(65536)
                if not data:
                    raise Ended("the connection ended")
                buffer += data

    return listen


async def sockjs_polling(place, ready):
    """SockJS's xhr and xhr_send, on connections that are kept."""
    session = f"/connection/sockjs/000/{id(place)}"
    as_frame = lambda *messages: json.dumps(messages)
    async with Connection(place) as polls, Connection(place) as posts:
        head, body = await polls.ask("POST", f"{session}/xhr")
        check(head, 200)
        head, _ = await posts.ask("POST", f"{session}/xhr_send", body=as_frame(CONNECT, SUBSCRIBE))
        check(head, 204)
        ready()
        while MARK not in body:
            head, body = await polls.ask("POST", f"{session}/xhr")
            check(head, 200)
            if body.startswith(b"c"):
                raise Ended(f"closed: {body!r}")
            if b'"{}"' in body:
                check((await posts.ask("POST", f"{session}/xhr_send", body=as_frame("{}")))[0], 204)


WAYS = {
    "WebSocket": websocket("/channels/demo"),
    "event stream": plain("text/event-stream"),
    "lines of JSON": plain("application/x-ndjson"),
    # A poll has no heartbeat: it must be over before the proxy loses patience.
    "long poll": poll(2, 0),
    "short poll": poll(0, 0.2),
    "Centrifuge WebSocket": websocket("/connection/websocket", f"{CONNECT}\n{SUBSCRIBE}", "{}"),
    "http_stream and emulation": emulated("POST", "/connection/http_stream"),
    "sse and emulation": emulated("GET", "/connection/sse"),
    "uni_websocket": websocket("/connection/uni_websocket", UNI_CONNECT),
    "uni_sse": lambda place, ready: stream(place, ready, {"method": "GET", "path": f"/connection/uni_sse?cf_connect={quote(UNI_CONNECT)}"}),
    "uni_http_stream": lambda place, ready: stream(place, ready, {"method": "POST", "path": "/connection/uni_http_stream", "body": UNI_CONNECT}),
    "SockJS WebSocket": websocket("/connection/sockjs/000/a-session/websocket", json.dumps([CONNECT, SUBSCRIBE]), '["{}"]'),
    "SockJS xhr-polling": sockjs_polling,
}


async def listen_all(place, hold_s: float, publish) -> dict[str, str]:
    """Listens every way for `hold_s` seconds, then publishes; gives what is wrong, by way."""
    ready = {name: asyncio.Event() for name in WAYS}
    tasks = {name: asyncio.ensure_future(listen(place, ready[name].set)) for name, listen in WAYS.items()}
    await asyncio.sleep(hold_s)
    problems = {name: "is not there" for name in WAYS if not ready[name].is_set()}
    await publish()
    await asyncio.wait(tasks.values(), timeout=5)
    for name, task in tasks.items():
        if not task.done():
            problems[name] = "does not hear the publication"
            task.cancel()
        elif task.exception():
            problems[name] = f"{type(task.exception()).__name__}: {task.exception()}"
    return problems
