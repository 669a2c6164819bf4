"""The Python package `websocket-client` against a running server with `echo = true`:
python websocket_client.py http://127.0.0.1:8000
It knows no compression.
"""

import asyncio
import struct
import sys
import urllib.request

from websocket import ABNF, WebSocketBadStatusException, create_connection

from report import TIMEOUT_S, run

HTTP = sys.argv[1].rstrip("/")
WS = HTTP.replace("http", "ws", 1)
LARGE = 1_000_000


def connect(path: str):
    return create_connection(WS + path, timeout=TIMEOUT_S)


def publish(channel: str, body: bytes, content_type: str = "text/plain"):
    headers = {"Content-Type": content_type}
    request = urllib.request.Request(f"{HTTP}/channels/{channel}", data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        assert answer.status == 200, answer.status


def publications_arrive_as_text_and_as_binary():
    socket = connect("/channels/websocket-client")
    for body in ['{"hello":"world"}', "grüße 🦀", "x" * LARGE]:
        publish("websocket-client", body.encode())
        assert socket.recv() == body
    body = bytes(i % 251 for i in range(LARGE))
    publish("websocket-client", body, "application/octet-stream")
    assert socket.recv() == body
    socket.close()


def echo_returns_every_length_class():
    socket = connect("/echo")
    for length in [0, 1, 125, 126, 65535, 65536]:
        socket.send("x" * length)
        assert socket.recv() == "x" * length
        socket.send_binary(b"\x07" * length)
        assert socket.recv() == b"\x07" * length
    socket.close()


def a_ping_gets_its_pong():
    socket = connect("/echo")
    socket.ping("payload")
    opcode, data = socket.recv_data(control_frame=True)
    assert (opcode, data) == (ABNF.OPCODE_PONG, b"payload"), (opcode, data)
    socket.close()


def a_close_is_answered_with_its_code():
    socket = connect("/echo")
    socket.send_close(4321, b"bye")
    opcode, data = socket.recv_data(control_frame=True)
    assert opcode == ABNF.OPCODE_CLOSE and struct.unpack(">H", data[:2]) == (4321,), (opcode, data)
    socket.shutdown()


def a_close_of_the_server_arrives_with_code_and_reason():
    socket = connect("/channels/websocket-client-listen-only")
    socket.send("let me")
    opcode, data = socket.recv_data(control_frame=True)
    assert opcode == ABNF.OPCODE_CLOSE and struct.unpack(">H", data[:2]) == (1008,) and data[2:], data
    socket.shutdown()


def an_unknown_path_is_404():
    try:
        connect("/nope")
    except WebSocketBadStatusException as refused:
        assert refused.status_code == 404, refused.status_code
    else:
        raise AssertionError("it was accepted")


def on_a_thread(test):
    async def run_on_a_thread():
        await asyncio.to_thread(test)

    run_on_a_thread.__name__ = test.__name__
    return run_on_a_thread


run(
    "websocket-client",
    [
        on_a_thread(test)
        for test in [
            publications_arrive_as_text_and_as_binary,
            echo_returns_every_length_class,
            a_ping_gets_its_pong,
            a_close_is_answered_with_its_code,
            a_close_of_the_server_arrives_with_code_and_reason,
            an_unknown_path_is_404,
        ]
    ],
)
