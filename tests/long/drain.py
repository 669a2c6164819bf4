#!/usr/bin/env python3
"""SIGTERM with many connected: every client gets Close 1001 before TCP ends, and the server exits 0 within the drain
window plus the close timeout. Some clients never answer the Close.

drain.py [--connections 10000] [--mute 100] [--window-ms 10000]
"""

import argparse
import asyncio
import collections
import time

from harness import Report, Server, subscribe, subscribe_many

CLOSE_TIMEOUT_MS = 5000
# One slot of the timer wheel, and a second for the process to end on a busy machine.
GRACE_S = 2.0


async def drain(server: Server, options, report: Report):
    def connect(i: int):
        path = f"/channels/drain-{i % 50}"
        return subscribe(server.host, server.port, path, answers_close=i >= options.mute)

    started = time.monotonic()
    subscribers = await subscribe_many(options.connections, connect)
    report.figure("connected", f"{len(subscribers)} in {time.monotonic() - started:.1f} s")

    signalled = time.monotonic()
    server.terminate()
    limit_s = (options.window_ms + CLOSE_TIMEOUT_MS) / 1000 + GRACE_S
    code = await asyncio.to_thread(server.process.wait, limit_s + 60)
    took_s = time.monotonic() - signalled
    await asyncio.wait([subscriber.ended for subscriber in subscribers], timeout=10)

    codes = collections.Counter(subscriber.close_code for subscriber in subscribers)
    problems = collections.Counter(s.problem for s in subscribers if s.problem)
    seconds = collections.Counter(int(s.close_at - signalled) for s in subscribers if s.close_at)
    report.figure("close codes", dict(codes))
    report.figure("closes per second of the drain", [seconds[s] for s in range(max(seconds, default=0) + 1)])
    report.figure("exit", f"{code} after {took_s:.1f} s, allowed {limit_s:.1f} s")
    report.check(codes == {1001: options.connections}, "every client gets Close 1001")
    report.check(not problems, f"whole frames only: {dict(problems)}")
    report.check(all(s.ended.done() for s in subscribers), "every connection ends")
    report.check(code == 0, "exit code 0")
    report.check(took_s <= limit_s, "within the drain window plus the close timeout")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--mute", type=int, default=100)
    parser.add_argument("--window-ms", type=int, default=10_000)
    options = parser.parse_args()
    report = Report(f"drain of {options.connections} connections")
    settings = [f"drain.window_ms={options.window_ms}", f"websocket.close_timeout_ms={CLOSE_TIMEOUT_MS}"]
    with Server(*(arg for setting in settings for arg in ("--set", setting))) as server:
        asyncio.run(drain(server, options, report))
    report.finish()


main()
