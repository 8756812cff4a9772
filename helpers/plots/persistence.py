"""The plots of notebook 01."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from . import COLOURS, LINES, MARKERS, axes, describe


def retention(states: pd.DataFrame, marks: dict[str, float]) -> Axes:
    """Messages held by each stream (a column each, index: seconds), with moments worth naming.

    `marks` gives a label and its second.
    """
    ax = axes()
    for column, colour, line, marker in zip(states, COLOURS, LINES, MARKERS, strict=False):
        ax.plot(
            states.index, states[column], color=colour, linestyle=line, marker=marker, label=column,
            markevery=max(1, len(states) // 14), markersize=5, drawstyle="steps-post",
        )  # fmt: skip
    top = states.max().max()
    for label, second in marks.items():
        ax.axvline(second, color="0.4", linewidth=1, linestyle=":")
        ax.annotate(
            label, (second, top * 1.12), xytext=(4, 0), textcoords="offset points", fontsize=9, va="center"
        )
    ax.set(title="What three retentions keep", xlabel="seconds", ylabel="messages in the stream")
    ax.set_ylim(-top * 0.03, top * 1.2)
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    ends = ", ".join(f"{column} ends at {states[column].iloc[-1]:.0f}" for column in states)
    return describe(ax, f"Messages held over time under three retention policies: {ends}.")


def ladder(rates: pd.DataFrame, title: str) -> Axes:
    """Publish rate in messages/s: a row a technique, a column (its axis named) a kind of stream."""
    rates = rates.rename(index=lambda name: name.replace("_", " "))
    ax = axes(height=1 + 0.8 * len(rates))
    ax.grid(axis="y", visible=False)
    ax.grid(axis="x", color="0.9")
    # Dots: a logarithmic axis has no zero for a bar to begin at.
    for i, (column, colour, marker) in enumerate(zip(rates, COLOURS, MARKERS, strict=False)):
        places = np.arange(len(rates)) + (i - (len(rates.columns) - 1) / 2) * 0.35
        ax.plot(rates[column], places, marker, label=column, color=colour, markersize=9)
        for rate, place in zip(rates[column], places, strict=True):
            ax.annotate(
                f"{rate:,.0f}", (rate, place), (8, 0), textcoords="offset points", va="center", fontsize=9
            )
    ax.set_ylim(-0.6, len(rates) - 0.4)
    ax.set(xscale="log", title=title, xlabel="messages acknowledged per second (logarithmic)")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:,.0f}"))
    ax.set_yticks(range(len(rates)), rates.index)
    ax.invert_yaxis()
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlim(10 ** np.floor(np.log10(rates.min().min())), rates.max().max() * 2)
    named = rates.columns.name
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), title=named)
    steps = "; ".join(
        f"{technique}: " + ", ".join(f"{rate:,.0f} ({named}: {column})" for column, rate in row.items())
        for technique, row in rates.iterrows()
    )
    return describe(ax, f"Messages acknowledged per second by publishing technique. {steps}.")
