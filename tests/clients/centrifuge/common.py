"""What the tests of the Centrifuge protocol share: tokens, channels, a connection that can be cut."""

import asyncio
import base64
import hashlib
import hmac
import json
import sys
import time
import uuid
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1]))

HTTP = sys.argv[1].rstrip("/")
API_KEY = "test-api-key"
HMAC_SECRET = b"secret"


def _base64url(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def token(**claims) -> str:
    """A JWT signed with HS256, of a connection or, with a `channel`, of a subscription."""
    header = _base64url(b'{"alg":"HS256","typ":"JWT"}')
    signed = f"{header}.{_base64url(json.dumps(claims).encode())}"
    mac = hmac.new(HMAC_SECRET, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{_base64url(mac)}"


def unix_time(after_s: int = 0) -> int:
    return int(time.time()) + after_s


def channel(namespace: str = "") -> str:
    """A channel no other test has."""
    return f"{namespace}:{uuid.uuid4()}" if namespace else str(uuid.uuid4())


async def until(condition):
    """Polls until the condition holds. The test's own deadline ends the wait."""
    while not (value := await condition()):
        await asyncio.sleep(0.01)
    return value


class Cuttable:
    """A TCP proxy before the server whose connections a test cuts."""

    def __init__(self):
        self.is_down = False
        self._writers = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self.is_down = True
        self.cut()
        self._server.close()

    async def _connect(self, reader, writer):
        if self.is_down:
            return writer.transport.abort()
        to = urlsplit(HTTP)
        upstream, upstream_writer = await asyncio.open_connection(to.hostname, to.port)
        self._writers |= {writer, upstream_writer}
        await asyncio.gather(self._pipe(reader, upstream_writer), self._pipe(upstream, writer))
        self._writers -= {writer, upstream_writer}

    async def _pipe(self, reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        writer.transport.abort()

    def cut(self):
        """Ends every connection there is, as a network does that goes away."""
        for writer in self._writers:
            writer.transport.abort()
