"""The short soak: a few faults of each kind; `make soak` runs many, on both backends."""

import asyncio
import sys
from pathlib import Path

from helpers.cluster.embedded import Embedded

sys.path.insert(0, str(Path(__file__).parent))
import soak

SEED, FAULTS = 3, 4  # draws each kind once


def test_the_plan_has_each_kind_and_is_the_same_each_time():
    assert {kind for kind, *_ in soak.plan(SEED, FAULTS)} == set(soak.KINDS)
    assert soak.plan(SEED, FAULTS) == soak.plan(SEED, FAULTS) != soak.plan(SEED + 1, FAULTS)


def test_nothing_acknowledged_is_lost_or_there_twice_and_every_order_is_paid():
    async def run():
        cluster = await Embedded(links=True).start()
        try:
            return await soak.soak(cluster, SEED, FAULTS)
        finally:
            await cluster.close()

    result = asyncio.run(run())
    assert len(result.faults) == FAULTS and result.acked > 1_000 and result.paid


def test_a_loss_is_seen():
    ledger = soak.Ledger(["a-0", "a-1", "a-2"], {"a-0", "a-1", "a-2"})
    verdict = ledger.compare(["a-2", "a-0", "a-0"])
    assert (verdict.lost, verdict.duplicated, verdict.reordered) == (1, 1, 1)
