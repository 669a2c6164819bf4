#!/usr/bin/env python3
"""Writes vectors.txt in this directory: messages as zlib compresses them, by way of Python.

    session WINDOW_BITS TAKEOVER      what follows is one connection
    message SEED PERIOD LEN HEX       a payload and its compressed form

A payload is LEN bytes of PERIOD bytes made of SEED, over and over; see words().
"""

import os
import zlib


def words(seed, period, length):
    vocabulary = ["push", "server", "channel", "price", "1.0825", "alice", "{", "}", "offset", "7"]
    state, text = seed, ""
    while len(text) < period:
        state = (state * 1103515245 + 12345) % 2**31
        text += vocabulary[(state >> 16) % 10] + ":,-\n"[(state >> 24) % 4]
    text = text[:period]
    return (text * (length // period + 1))[:length].encode()


def compressor(bits, level=6, strategy=zlib.Z_DEFAULT_STRATEGY):
    return zlib.compressobj(level, zlib.DEFLATED, -bits, 8, strategy)


def flushed(z, payload, flush=zlib.Z_SYNC_FLUSH):
    data = z.compress(payload) + z.flush(flush)
    assert data.endswith(b"\x00\x00\xff\xff")
    return data[:-4]


def message(out, seed, period, length, data):
    print("message", seed, period, length, data.hex(), file=out)


with open(os.path.join(os.path.dirname(__file__), "vectors.txt"), "w") as out:
    for bits in range(9, 16):
        print("session", bits, "takeover", file=out)
        z = compressor(bits)
        for n, (period, length) in enumerate([(300, 300), (90, 1000), (300, 300), (1, 5), (250, 400)]):
            payload = words(bits + n % 2, period, length)
            message(out, bits + n % 2, period, length, flushed(z, payload))
    for bits, period, length in [(9, 200, 3000), (12, 2000, 4200), (15, 5000, 10100)]:
        print("session", bits, "no_takeover", file=out)
        for seed in (1, 2):
            message(out, seed, period, length, flushed(compressor(bits, 9), words(seed, period, length)))
    print("session", 15, "no_takeover", file=out)
    for level, strategy in [(0, zlib.Z_DEFAULT_STRATEGY), (1, zlib.Z_DEFAULT_STRATEGY), (6, zlib.Z_HUFFMAN_ONLY),
                            (6, zlib.Z_FIXED), (6, zlib.Z_RLE), (6, zlib.Z_FILTERED)]:
        message(out, 5, 150, 320, flushed(compressor(15, level, strategy), words(5, 150, 320)))
    # Full flushes within a message, and final blocks: one at the end, and two.
    payload = words(6, 100, 400)
    z = compressor(15)
    parts = [z.compress(payload[at:at + 50]) + z.flush(zlib.Z_FULL_FLUSH) for at in range(0, 400, 50)]
    message(out, 6, 100, 400, b"".join(parts)[:-4])
    z = compressor(15)
    message(out, 6, 100, 400, z.compress(payload) + z.flush() + b"\x00")
    first, second = compressor(15), zlib.compressobj(6, zlib.DEFLATED, -15, 8, 0, payload[:200])
    parts = [first.compress(payload[:200]) + first.flush(), second.compress(payload[200:]) + second.flush()]
    message(out, 6, 100, 400, b"".join(parts) + b"\x00")
    # A final block, and a message that refers back past it.
    print("session", 15, "takeover", file=out)
    z = compressor(15)
    message(out, 6, 100, 400, z.compress(payload) + z.flush() + b"\x00")
    z = zlib.compressobj(6, zlib.DEFLATED, -15, 8, 0, payload)
    message(out, 6, 100, 400, flushed(z, payload))
