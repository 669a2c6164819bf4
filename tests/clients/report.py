"""One line per test, `ok NAME` or `FAILED NAME: reason`; the exit code says whether all passed."""

import asyncio
import sys

TIMEOUT_S = 60


async def passes(prefix: str, test) -> bool:
    name = f"{prefix}: " + test.__name__.replace("_", " ")
    try:
        await asyncio.wait_for(test(), TIMEOUT_S)
    except Exception as error:
        print(f"FAILED {name}: {error!r}", flush=True)
        return False
    print(f"ok {name}", flush=True)
    return True


async def main(prefix: str, tests) -> int:
    results = [await passes(prefix, test) for test in tests]
    return 0 if all(results) else 1


def run(prefix: str, tests):
    """Runs the tests one after the other, each with a deadline, and exits."""
    sys.exit(asyncio.run(main(prefix, tests)))
