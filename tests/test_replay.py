"""What notebook 05 stands on beside `bulk`: backup and restore, and its plots."""

import asyncio
from pathlib import Path

import nats
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from helpers import backup, bulk, plots
from helpers.cluster import open_cluster


@pytest.fixture(scope="module")
def lab():
    with asyncio.Runner() as runner:
        cluster = runner.run(open_cluster("embedded", size=4))
        nc = runner.run(nats.connect(**cluster.options))
        yield runner.run, cluster, nc
        runner.run(nc.close())
        runner.run(cluster.close())


@pytest.fixture
def stream(lab):
    run, cluster, nc = lab
    js = nc.jetstream()
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


def drawn(ax):
    assert ax.figure.alt and len(ax.figure.alt) > 40
    plt.close(ax.figure)
    return ax


def test_plots_show_what_they_are_given():
    ax = drawn(plots.speeds({"as stored": [0.0, 1.0, 2.0], "instant": [0.0, 0.0, 0.01]}))
    assert list(ax.lines[0].get_xdata()) == [0.0, 1.0, 2.0] and list(ax.lines[1].get_ydata()) == [1, 2, 3]
    received = pd.Series([1, 100, 200], index=[0.0, 0.5, 3.5])
    ax = drawn(plots.recovery(received, 0.4))
    assert "3.0 seconds" in ax.figure.alt and list(ax.lines[0].get_ydata()) == [1, 100, 200]
    hours = pd.DataFrame(np.arange(168).reshape(7, 24))
    ax = drawn(plots.heat_map(hours))
    assert (ax.images[0].get_array() == hours.to_numpy()).all() and "Sun 23:00" in ax.figure.alt
    weeks = pd.Series([1000.0, 3000.0], index=pd.to_datetime(["2017-01-02", "2017-01-09"]))
    ax = drawn(plots.weekly(weeks, {"2017-01-10": "peak"}))
    assert list(ax.lines[0].get_ydata()) == [1.0, 3.0] and ax.texts[0].get_text() == "peak"
    ax = drawn(plots.departments(pd.Series({"A": 2000.0, "B": 1000.0})))
    assert [bar.get_width() for bar in ax.patches] == [2.0, 1.0]
    ax = drawn(plots.rates(pd.Series({"fetch(1)": 10.0, "pulls": 1000.0})))
    assert [bar.get_width() for bar in ax.patches] == [10.0, 1000.0] and ax.get_xscale() == "log"
    ax = drawn(plots.positions(pd.DataFrame({"sequence": {1000: 1.0, 10_000: 1.1}})))
    assert list(ax.lines[0].get_ydata()) == [1.0, 1.1]
