"""The live picture of notebook 04's panel."""

import pandas as pd
from matplotlib.axes import Axes

from . import BLUE, GREEN, LINES, VERMILION, axes, describe


def live_lag(samples: pd.DataFrame) -> Axes:
    """The three numbers in the last seconds, and the workers on an axis of their own.

    `samples`: seconds, pending, ack_pending, redelivered, workers.
    """
    ax = axes(height=3)
    names = ("pending", "ack_pending", "redelivered")
    for name, colour, line in zip(names, (BLUE, GREEN, VERMILION), LINES, strict=False):
        label = f"{name.replace('_', ' ')}: {samples[name].iloc[-1]:.0f}"
        ax.plot(samples["seconds"], samples[name], color=colour, linestyle=line, label=label)
    crew, workers = ax.twinx(), samples["workers"]
    crew.step(samples["seconds"], workers, "k:", where="post", label=f"workers: {workers.iloc[-1]:.0f}")
    crew.set(ylabel="workers", ylim=(0, 8.5))
    crew.spines["top"].set_visible(False)
    first, last = samples["seconds"].iloc[[0, -1]]
    ax.set(xlabel="seconds", ylabel="messages", xlim=(first, max(last, first + 5)), title="The group now")
    ax.set_ylim(0, max(10, samples[list(names)].max().max() * 1.1))
    ax.figure.legend(frameon=False, loc="outside right upper")
    now = ", ".join(f"{name.replace('_', ' ')} {samples[name].iloc[-1]:.0f}" for name in (*names, "workers"))
    return describe(ax, f"The consumer's numbers over the last seconds. Now: {now}.")
