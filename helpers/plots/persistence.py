"""The plots of notebook 01."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from . import BLUE, COLOURS, HATCHES, LINES, MARKERS, VERMILION, axes, describe


def outage(acked: pd.Series, killed: float, served: float) -> Axes:
    """Acknowledged messages over time (index: seconds) around the moment every node was killed.

    `killed` and `served` are the seconds of the kill and of the first acknowledgement after it.
    """
    ax = axes()
    ax.step(acked.index, acked.to_numpy(), where="post", color=BLUE, linewidth=2)
    ax.axvspan(killed, served, facecolor="0.94", edgecolor="0.8", hatch="//", linewidth=0, alpha=0.6)
    ax.axvline(killed, color=VERMILION, linestyle="--", linewidth=1.5)
    ax.text(
        (killed + served) / 2,
        acked.max() * 0.25,
        f"no acknowledgement\nfor {served - killed:.1f} s",
        ha="center",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 3},
    )
    ax.annotate(
        "SIGKILL, all four nodes",
        (killed, acked.max()),
        xytext=(8, -2),
        textcoords="offset points",
        color=VERMILION,
        va="top",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
    )
    ax.set(xlabel="seconds", ylabel="orders acknowledged", ylim=(0, acked.max() * 1.05))
    return describe(
        ax,
        f"Orders acknowledged over time: a rise to {acked[:killed].iloc[-1]:.0f}, a flat stretch of "
        f"{served - killed:.1f} seconds after all four nodes were killed, then a rise to {acked.max():.0f}.",
    )


def retention(states: pd.DataFrame, marks: dict[str, float]) -> Axes:
    """Messages held by each stream (a column each, index: seconds), with moments worth naming.

    `marks` gives a label and its second.
    """
    ax = axes()
    for column, colour, line, marker in zip(states, COLOURS, LINES, MARKERS, strict=False):
        ax.plot(
            states.index, states[column], color=colour, linestyle=line, marker=marker,
            markevery=max(1, len(states) // 14), markersize=5, label=column,
        )  # fmt: skip
    top = states.max().max()
    for label, second in marks.items():
        ax.axvline(second, color="0.4", linewidth=1, linestyle=":")
        ax.annotate(
            label, (second, top * 1.12), xytext=(4, 0), textcoords="offset points", fontsize=9, va="center"
        )
    ax.set(xlabel="seconds", ylabel="messages in the stream", ylim=(-top * 0.03, top * 1.2))
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    ends = ", ".join(f"{column} ends at {states[column].iloc[-1]:.0f}" for column in states)
    return describe(ax, f"Messages held over time under three retention policies: {ends}.")


def ladder(rates: pd.DataFrame) -> Axes:
    """Publish rate in messages/s: a row a technique, a column a kind of stream; logarithmic bars."""
    ax = axes(height=4.2)
    ax.grid(axis="y", visible=False)
    ax.grid(axis="x", color="0.9")
    height = 0.8 / len(rates.columns)
    for i, (column, colour, hatch) in enumerate(zip(rates, COLOURS, HATCHES, strict=False)):
        places = np.arange(len(rates)) + (i - (len(rates.columns) - 1) / 2) * height
        bars = ax.barh(
            places, rates[column], height * 0.92, label=column, color=colour, hatch=hatch, edgecolor="white"
        )
        ax.bar_label(bars, [f" {rate:,.0f}" for rate in rates[column]], fontsize=8)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:,.0f}"))
    ax.set_yticks(range(len(rates)), rates.index)
    ax.invert_yaxis()
    ax.set(xlabel="messages acknowledged per second (logarithmic)")
    ax.set_xlim(right=rates.max().max() * 3)
    ax.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.4, -0.18), ncols=len(rates.columns))
    steps = "; ".join(
        f"{technique}: " + ", ".join(f"{rate:,.0f} on {column}" for column, rate in row.items())
        for technique, row in rates.iterrows()
    )
    return describe(ax, f"Messages acknowledged per second by publishing technique. {steps}.")
