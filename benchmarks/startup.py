"""Seconds from nothing to the first acknowledged R3 publish, over fresh starts of four nodes.

    python benchmarks/startup.py [starts]

Prints median, worst, and how many starts were made afresh, since an election or a route was missed.
"""

import asyncio
import statistics
import sys
import time

from helpers.cluster.embedded import Embedded


async def main(starts: int) -> None:
    seconds, layouts = [], 0

    class Counted(Embedded):
        async def _lay_out(self) -> None:
            nonlocal layouts
            layouts += 1
            await super()._lay_out()

    for n in range(starts):
        begin = time.perf_counter()
        cluster = await Counted().start()
        seconds.append(time.perf_counter() - begin)
        await cluster.close()
        print(f"{n + 1:>3} of {starts}: {seconds[-1]:.2f} s")
    print(
        f"ready in a median of {statistics.median(seconds):.2f} s, at worst {max(seconds):.2f} s, "
        f"{layouts - starts} times made afresh"
    )


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20))
