#!/usr/bin/env python3
"""Subscribes, says `open`, answers pings and stays until killed: subscriber.py HOST PORT PATH"""

import asyncio
import sys

from harness import subscribe


async def main(host: str, port: str, path: str):
    subscriber = await subscribe(host, int(port), path)
    print("open", flush=True)
    await subscriber.ended


asyncio.run(main(*sys.argv[1:]))
