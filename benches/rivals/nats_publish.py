"""Publishes to nats-server: `nats_publish.py HOST:PORT` reads lines of a subject, a space and a message, and answers
each once the server has taken the message (the PONG behind it)."""

import socket
import sys


def main():
    host, port = sys.argv[1].rsplit(":", 1)
    connection = socket.create_connection((host, int(port)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    answers = connection.makefile("rb")
    connection.sendall(b'CONNECT {"verbose":false,"pedantic":false}\r\n')
    for line in sys.stdin:
        subject, data = line.rstrip("\n").split(" ", 1)
        data = data.encode()
        connection.sendall(b"PUB %s %d\r\n%s\r\nPING\r\n" % (subject.encode(), len(data), data))
        await_pong(connection, answers)
        print("ok", flush=True)


def await_pong(connection, answers):
    for answer in answers:
        if answer == b"PONG\r\n":
            return
        if answer == b"PING\r\n":
            connection.sendall(b"PONG\r\n")
        elif answer.startswith(b"-ERR"):
            sys.exit(answer.decode())
    sys.exit("the server is gone")


main()
