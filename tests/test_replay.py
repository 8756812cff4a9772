"""What notebook 05 stands on beside `bulk`: backup and restore."""

import asyncio
from pathlib import Path

import pandas as pd
import pytest
from programs import ELECTION, connected

from helpers import backup, bulk
from helpers.cluster import open_cluster


@pytest.fixture(scope="module")
def lab():
    with asyncio.Runner() as runner:
        cluster = runner.run(open_cluster("embedded", size=4))
        nc, _ = runner.run(connected(cluster))
        yield runner.run, cluster, nc
        runner.run(nc.close())
        runner.run(cluster.close())


@pytest.fixture
def stream(lab):
    run, cluster, nc = lab
    js = nc.jetstream(timeout=ELECTION)
    run(cluster.delete_streams(js, "KEPT"))
    run(js.add_stream(name="KEPT", subjects=["kept.*"], num_replicas=3, allow_batched=True))
    run(bulk.publish(nc, ((f"kept.{n % 3}", bytes(300), {"N": str(n)}) for n in range(5_000))))
    run(js.delete_msg("KEPT", 17))
    return js


def test_a_restored_stream_is_the_same_to_the_byte(lab, stream, tmp_path):
    run, _, nc = lab
    before = run(bulk.frame(nc, "KEPT"))
    file = tmp_path / "kept.backup"
    size = run(backup.save(nc, "KEPT", file))
    assert size == file.stat().st_size > 0
    run(stream.delete_stream("KEPT"))
    assert run(backup.restore(nc, file)) == "KEPT"
    pd.testing.assert_frame_equal(run(bulk.frame(nc, "KEPT")), before)
    assert 17 not in set(before["seq"])
    assert run(stream.stream_info("KEPT")).config.num_replicas == 3


def test_a_stream_that_exists_is_not_overwritten(lab, stream, tmp_path):
    run, _, nc = lab
    run(backup.save(nc, "KEPT", tmp_path / "kept.backup"))
    with pytest.raises(backup.BackupError, match=r"10130|already"):
        run(backup.restore(nc, tmp_path / "kept.backup"))
    assert run(stream.stream_info("KEPT")).state.messages == 4_999


def test_a_stream_that_does_not_exist_cannot_be_saved(lab, tmp_path):
    run, _, nc = lab
    before = len(nc._subs)
    with pytest.raises(backup.BackupError, match="stream not found"):
        run(backup.save(nc, "NOWHERE", tmp_path / "x"))
    assert len(nc._subs) == before


def test_a_damaged_file_is_refused(lab, stream, tmp_path):
    run, _, nc = lab
    file = Path(tmp_path / "kept.backup")
    run(backup.save(nc, "KEPT", file))
    run(stream.delete_stream("KEPT"))
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] + bytes(1000))
    with pytest.raises(backup.BackupError):
        run(backup.restore(nc, file))
