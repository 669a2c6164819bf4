"""The Python package `websockets` against a running server with `echo = true`:
python websockets_client.py http://127.0.0.1:8000
"""

import asyncio
import json
import sys
import urllib.request

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from report import TIMEOUT_S, run

HTTP = sys.argv[1].rstrip("/")
WS = HTTP.replace("http", "ws", 1)


def post(path: str, body: bytes, content_type: str = "text/plain") -> dict:
    headers = {"Content-Type": content_type}
    request = urllib.request.Request(HTTP + path, data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        return json.load(answer)


async def publish(channel: str, body: bytes, **options) -> dict:
    return await asyncio.to_thread(post, f"/channels/{channel}", body, **options)


async def closed_with(client) -> ConnectionClosed:
    try:
        while True:
            await client.recv()
    except ConnectionClosed as closed:
        return closed


async def json_and_text_arrive_as_text():
    async with connect(f"{WS}/channels/py-text") as client:
        for body in ['{"hello":"world"}', '{ "a" :\n 1 }', "plain", "grüße 🦀"]:
            await publish("py-text", body.encode())
            assert await client.recv() == body


async def bytes_arrive_as_binary():
    async with connect(f"{WS}/channels/py-binary") as client:
        body = bytes(range(256)) * 300
        await publish("py-binary", body, content_type="application/octet-stream")
        assert await client.recv() == body


async def the_server_api_publishes():
    async with connect(f"{WS}/channels/py-api") as client:
        request = json.dumps({"channel": "py-api", "data": {"n": 1}}).encode()
        answer = await asyncio.to_thread(post, "/api/publish", request)
        assert answer["result"]["offset"] >= 1, answer
        assert json.loads(await client.recv()) == {"n": 1}


async def concurrent_publishers_are_heard_in_one_order():
    clients = [await connect(f"{WS}/channels/py-order") for _ in range(20)]
    publishes = [publish("py-order", f"message {i}".encode()) for i in range(100)]
    answers = await asyncio.gather(*publishes)
    order = sorted(range(100), key=lambda i: answers[i]["offset"])
    for client in clients:
        heard = [await client.recv() for _ in range(100)]
        assert heard == [f"message {i}" for i in order]
        await client.close()


async def chat_is_heard_by_all():
    async with connect(f"{WS}/chat") as alice, connect(f"{WS}/chat") as bob:
        await alice.send("hello from alice")
        assert await alice.recv() == "hello from alice"
        assert await bob.recv() == "hello from alice"
        await bob.send(b"\x00\xff")
        assert await alice.recv() == b"\x00\xff"


async def a_client_that_may_not_publish_is_closed_with_1008():
    async with connect(f"{WS}/channels/py-listen-only") as client:
        await client.send("let me")
        closed = await closed_with(client)
        assert closed.rcvd.code == 1008 and closed.rcvd.reason, closed


async def echo_returns_every_length_class():
    async with connect(f"{WS}/echo") as client:
        for length in [0, 125, 126, 127, 65535, 65536]:
            for message in ["x" * length, b"\x07" * length]:
                await client.send(message)
                assert await client.recv() == message


async def a_fragmented_message_is_echoed_whole():
    async with connect(f"{WS}/echo") as client:
        await client.send(["Hel", "", "lo €", "!"])
        assert await client.recv() == "Hello €!"


async def a_ping_gets_its_pong():
    async with connect(f"{WS}/channels/py-ping") as client:
        await (await client.ping(b"payload"))


async def a_message_too_big_is_closed_with_1009():
    async with connect(f"{WS}/echo") as client:
        try:
            await client.send(b"x" * 65537)
        except ConnectionClosed:
            pass
        assert (await closed_with(client)).rcvd.code == 1009


async def a_close_is_answered():
    client = await connect(f"{WS}/channels/py-close")
    await client.close(code=4321, reason="bye")
    assert client.close_code in (4321, 1000), client.close_code


async def refused_with(path: str, **options) -> int:
    try:
        await connect(f"{WS}{path}", **options)
    except InvalidStatus as refused:
        return refused.response.status_code
    raise AssertionError(f"{path} was accepted")


async def an_unknown_path_is_404_and_another_origin_403():
    assert await refused_with("/nope") == 404
    assert await refused_with("/channels/x", origin="http://evil.example") == 403


async def the_metrics_count_what_was_published():
    def published() -> float:
        with urllib.request.urlopen(f"{HTTP}/metrics", timeout=TIMEOUT_S) as answer:
            lines = answer.read().decode().splitlines()
        name = "longwire_publications_total"
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    before = await asyncio.to_thread(published)
    await publish("py-metrics", b'{"hello":"world"}')
    assert await asyncio.to_thread(published) == before + 1


TESTS = [
    json_and_text_arrive_as_text,
    bytes_arrive_as_binary,
    the_server_api_publishes,
    concurrent_publishers_are_heard_in_one_order,
    chat_is_heard_by_all,
    a_client_that_may_not_publish_is_closed_with_1008,
    echo_returns_every_length_class,
    a_fragmented_message_is_echoed_whole,
    a_ping_gets_its_pong,
    a_message_too_big_is_closed_with_1009,
    a_close_is_answered,
    an_unknown_path_is_404_and_another_origin_403,
    the_metrics_count_what_was_published,
]


run("websockets", TESTS)
