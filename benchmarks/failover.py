"""How long nobody acknowledges when a stream's leader goes: killed, stopped, lame duck, step-down.

    python benchmarks/failover.py [--trials 6] [--faults kill stop lame_duck step_down] [--picture FILE]

A trial: a stream of three replicas on four fresh nodes, one publisher that awaits each acknowledgement
(timeout 20 ms, the same message ID on every try), and the fault on the stream's leader after 100 of
them. The gap is the longest time between two acknowledgements after it, in milliseconds. Each
trial also compares what was acknowledged with what is stored. Prints median, minimum and maximum.
"""

import argparse
import asyncio
import itertools
import statistics
import time

import nats

from helpers import plots
from helpers.cluster.embedded import Embedded
from helpers.ledger import Ledger

BEFORE, AFTER = 100, 300
TIMEOUT = 0.02  # seconds; an order in flight while a leadership moves is answered by nobody
FAULTS = ("kill", "stop", "lame_duck", "step_down")


async def publish(js, ledger: Ledger, acked: list[float], count: int) -> None:
    for _ in range(count):
        id_ = str(len(ledger.sent))
        ledger.sent.append(id_)
        async with asyncio.timeout(40):
            while id_ not in ledger.acked:
                try:
                    await js.publish("s", b"x" * 256, timeout=TIMEOUT, headers={"Nats-Msg-Id": id_})
                    ledger.acked.add(id_)
                except nats.errors.Error:
                    await asyncio.sleep(0.005)
        acked.append(time.perf_counter())


async def trial(cluster: Embedded, fault: str) -> float:
    nc = await nats.connect(**cluster.options)
    js = nc.jetstream(domain=cluster.domain, timeout=10)
    await js.add_stream(name="S", subjects=["s"], num_replicas=3)
    leader = (await js.stream_info("S")).cluster.leader
    ledger, acked = Ledger(), []
    await publish(js, ledger, acked, BEFORE)
    if fault == "step_down":
        broken = asyncio.create_task(nc.request("$JS.API.STREAM.LEADER.STEPDOWN.S", timeout=2))
    else:
        broken = asyncio.create_task(getattr(cluster, fault)(leader))
    await publish(js, ledger, acked, AFTER)
    await broken
    await cluster.restore_all()
    await cluster.caught_up()
    sub = await js.subscribe("s", stream="S", ordered_consumer=True)
    total = (await js.stream_info("S")).state.messages
    verdict = ledger.compare([(await sub.next_msg(5)).headers["Nats-Msg-Id"] for _ in range(total)])
    assert (verdict.lost, verdict.duplicated, verdict.reordered) == (0, 0, 0), verdict
    await js.delete_stream("S")
    await nc.close()
    after = acked[BEFORE - 1 :]
    return max(b - a for a, b in itertools.pairwise(after)) * 1e3


async def main(trials: int, faults: list[str], picture: str | None) -> None:
    cluster = await Embedded().start()
    ax = plots.axes(height=2.5)
    try:
        for fault in faults:
            gaps = [await trial(cluster, fault) for _ in range(trials)]
            print(
                f"{fault:10} {trials} trials: median {statistics.median(gaps):7,.0f} ms, "
                f"{min(gaps):,.0f} to {max(gaps):,.0f} ms; nothing acknowledged lost, twice or reordered",
                flush=True,
            )
            ax.plot(gaps, [fault] * trials, "o", color=plots.BLUE, alpha=0.6)
    finally:
        await cluster.close()
    if picture:
        ax.set(xscale="log", xlabel="milliseconds without an acknowledgement, a dot a trial")
        ax.invert_yaxis()
        ax.figure.savefig(picture, dpi=100)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--picture", metavar="FILE", help="draw the gaps to this PNG")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.trials, arguments.faults, arguments.picture))
