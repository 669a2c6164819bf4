"""The Python package `aiohttp` against a running server with `echo = true`:
python aiohttp_client.py http://127.0.0.1:8000
"""

import os
import sys

from aiohttp import ClientSession, WSMsgType, WSServerHandshakeError

from report import run

HTTP = sys.argv[1].rstrip("/")
LENGTHS = [0, 1, 125, 126, 65535, 65536]
LARGE = 1_000_000
COMPRESSION = os.environ.get("COMPRESSION") == "1"


async def publish(session: ClientSession, channel: str, body: bytes, content_type: str = "text/plain"):
    headers = {"Content-Type": content_type}
    async with session.post(f"{HTTP}/channels/{channel}", data=body, headers=headers) as answer:
        assert answer.status == 200, answer.status


async def publications(channel: str, **options):
    async with ClientSession() as session:
        async with session.ws_connect(f"{HTTP}/channels/{channel}", **options) as socket:
            for body in ['{"hello":"world"}', "grüße 🦀", "x" * LARGE]:
                await publish(session, channel, body.encode())
                assert await socket.receive_str() == body
            body = bytes(i % 251 for i in range(LARGE))
            await publish(session, channel, body, "application/octet-stream")
            assert await socket.receive_bytes() == body


async def round_trips(**options):
    async with ClientSession() as session:
        async with session.ws_connect(f"{HTTP}/echo", **options) as socket:
            assert bool(socket.compress) == (COMPRESSION and "compress" in options)
            for length in LENGTHS:
                await socket.send_str("x" * length)
                assert await socket.receive_str() == "x" * length
                await socket.send_bytes(b"\x07" * length)
                assert await socket.receive_bytes() == b"\x07" * length


async def publications_arrive_as_text_and_as_binary():
    await publications("aiohttp", max_msg_size=0)


async def echo_returns_every_length_class():
    await round_trips()


async def with_compression_offered_publications_arrive():
    await publications("aiohttp-offer", max_msg_size=0, compress=15)


async def with_compression_offered_echo_returns_messages():
    await round_trips(compress=15)


async def with_a_small_window_offered_echo_returns_messages():
    await round_trips(compress=9)


async def a_ping_gets_its_pong():
    async with ClientSession() as session:
        async with session.ws_connect(f"{HTTP}/echo", autoping=False) as socket:
            await socket.ping(b"payload")
            message = await socket.receive()
            while message.type == WSMsgType.PING:
                await socket.pong(message.data)
                message = await socket.receive()
            assert message.type == WSMsgType.PONG and message.data == b"payload", message


async def a_close_is_answered():
    async with ClientSession() as session:
        socket = await session.ws_connect(f"{HTTP}/channels/aiohttp")
        assert await socket.close(code=4321, message=b"bye")
        assert socket.close_code == 4321, socket.close_code


async def a_close_of_the_server_arrives_with_code_and_reason():
    async with ClientSession() as session:
        async with session.ws_connect(f"{HTTP}/channels/aiohttp-listen-only") as socket:
            await socket.send_str("let me")
            message = await socket.receive()
            assert message.type == WSMsgType.CLOSE and message.data == 1008 and message.extra, message


async def an_unknown_path_is_404():
    async with ClientSession() as session:
        try:
            await session.ws_connect(f"{HTTP}/nope")
        except WSServerHandshakeError as refused:
            assert refused.status == 404, refused.status
        else:
            raise AssertionError("it was accepted")


run(
    "aiohttp",
    [
        publications_arrive_as_text_and_as_binary,
        echo_returns_every_length_class,
        with_compression_offered_publications_arrive,
        with_compression_offered_echo_returns_messages,
        with_a_small_window_offered_echo_returns_messages,
        a_ping_gets_its_pong,
        a_close_is_answered,
        a_close_of_the_server_arrives_with_code_and_reason,
        an_unknown_path_is_404,
    ],
)
