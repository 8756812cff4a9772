"""The plots of notebook 04."""

import numpy as np
import pandas as pd
from IPython.display import DisplayHandle, display
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from . import BLUE, COLOURS, GREEN, HATCHES, LINES, MARKERS, VERMILION, axes, describe


def _stack(rows: int, height: float, ratios: list[float] | None = None, **more: object) -> np.ndarray:
    """Axes above each other in the lessons' style."""
    _, grid = plt.subplots(
        rows, figsize=(8, height), layout="constrained", sharex=True, height_ratios=ratios, **more
    )
    for ax in grid:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="y", color="0.9")
        ax.set_axisbelow(True)
    return grid


def shares(paid: dict[str, pd.DataFrame], slow: str) -> Axes:
    """Who was given which order when: a panel a way of delivery.

    Each frame holds a row an order: worker, seq, seconds. `slow` names the worker that takes longer.
    """
    _, grid = plt.subplots(1, len(paid), figsize=(8, 3.4), layout="constrained", sharex=True, sharey=True)
    told = []
    for ax, (way, frame) in zip(grid, paid.items(), strict=True):
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="0.93")
        ax.set_axisbelow(True)
        for (name, rows), colour, marker in zip(frame.groupby("worker"), COLOURS, MARKERS, strict=False):
            label = f"{name}{' (slow)' if name == slow else ''}: {len(rows)}"
            ax.plot(
                rows["seconds"], rows["seq"], linestyle="", marker=marker, markersize=4,
                markerfacecolor="white" if name == slow else colour, color=colour, label=label,
            )  # fmt: skip
        ax.set(title=way, xlabel="seconds until paid")
        ax.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, fontsize=9,
                  columnspacing=1, handletextpad=0.2)  # fmt: skip
        counts = frame["worker"].value_counts().sort_index()
        told.append(
            f"{way}: " + ", ".join(f"{name} {count}" for name, count in counts.items())
            + f", done after {frame['seconds'].max():.1f} s"
        )  # fmt: skip
    grid[0].set_ylabel("sequence in ORDERS")
    return describe(
        grid[0], f"Orders paid by each worker over time; {slow} is slow. " + "; ".join(told) + "."
    )


def lag(samples: pd.DataFrame, marks: dict[str, float] | None = None) -> Axes:
    """The three numbers of a consumer under a rate that rises and falls, and what changed them.

    `samples`: seconds, published and paid (both cumulative), workers, pending, ack_pending, redelivered.
    `marks`: a label and its second, for moments worth a line through all panels.
    """
    frame = samples.dropna(subset=["pending"]).reset_index(drop=True)
    seconds = frame["seconds"]
    grid = _stack(5, 8, [1.4, 0.7, 1.2, 1.2, 0.8])
    rate, crew, *counts = grid

    window = 0.3  # orders a second over the time before each sample
    for column, colour, line in (("published", BLUE, "-"), ("paid", VERMILION, "--")):
        before = np.interp(seconds - window, seconds, frame[column])
        span = np.minimum(window, seconds.clip(lower=0.05))
        rate.plot(seconds, (frame[column] - before) / span, color=colour, linestyle=line, label=column)
    rate.set(ylabel="orders / s")
    rate.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))

    crew.step(seconds, frame["workers"], where="post", color="black")
    crew.fill_between(seconds, frame["workers"], step="post", color="0.88")
    crew.set(ylabel="workers")

    for ax, column, colour, hatch in zip(
        counts,
        ("pending", "ack_pending", "redelivered"),
        (BLUE, GREEN, VERMILION),
        ("", "...", "///"),
        strict=True,
    ):
        ax.fill_between(
            seconds, frame[column], facecolor=colour, alpha=0.25, hatch=hatch, edgecolor=colour, linewidth=0
        )
        ax.plot(seconds, frame[column], color=colour)
        ax.set(ylabel=column.replace("_", "\n"))
    for ax in grid:
        ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        ax.set_ylim(0, max(1.0, ax.get_ylim()[1]))
        for second in (marks or {}).values():
            ax.axvline(second, color="0.45", linewidth=1, linestyle=":")
    for label, second in (marks or {}).items():
        rate.annotate(
            label, (second, 1), xycoords=("data", "axes fraction"), xytext=(0, 3),
            textcoords="offset points", fontsize=8.5, ha="center", va="bottom",
        )  # fmt: skip
    counts[-1].set(xlabel="seconds", xlim=(0, seconds.max()))
    grid[0].figure.align_ylabels()
    peak = frame.loc[frame["pending"].idxmax()]
    return describe(
        rate,
        f"Five panels over {seconds.max():.0f} seconds: orders published and paid a second; workers, from "
        f"{frame['workers'].min():.0f} to {frame['workers'].max():.0f}; pending, which peaks at "
        f"{peak['pending']:.0f} after {peak['seconds']:.1f} s; ack pending, at most "
        f"{frame['ack_pending'].max():.0f}, and redelivered, at most {frame['redelivered'].max():.0f}. "
        f"At the end pending is {frame['pending'].iloc[-1]:.0f}.",
    )


def scaling(rates: pd.DataFrame, each: float) -> Axes:
    """Orders paid a second by number of workers (index): a column a configuration.

    `each` is what one worker would do alone: the straight line.
    """
    ax = axes()
    ax.plot(rates.index, rates.index * each, color="0.5", linewidth=1, label="every worker adds as much")
    for column, colour, line, marker in zip(rates, COLOURS, LINES, MARKERS, strict=False):
        ax.plot(rates.index, rates[column], color=colour, linestyle=line, marker=marker, label=column)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    ax.set_xticks(rates.index, [str(n) for n in rates.index])
    ticks = [25 * 2**n for n in range(8) if 25 * 2**n < rates.index.max() * each * 1.3]
    ax.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.minorticks_off()
    ax.set(xlabel="workers", ylabel="orders paid / s")
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    told = "; ".join(
        f"{column}: " + ", ".join(f"{n} workers {rate:,.0f}" for n, rate in rates[column].items())
        for column in rates
    )
    return describe(ax, f"Orders paid a second by number of workers, both axes logarithmic. {told}.")


def attempts(timelines: dict[str, list[float]]) -> Axes:
    """When one message was delivered, in seconds since the first time: a row a way to fail."""
    ax = axes(height=0.8 + 0.55 * len(timelines))
    ax.grid(axis="y", visible=False)
    ax.grid(axis="x", color="0.9")
    for row, (moments, colour, marker) in enumerate(zip(timelines.values(), COLOURS, MARKERS, strict=False)):
        ax.plot(moments, [row] * len(moments), color=colour, marker=marker, markersize=8, linewidth=1)
        ax.annotate(
            f"{len(moments)} deliveries in {moments[-1]:.2f} s", (moments[-1], row), xytext=(10, 0),
            textcoords="offset points", va="center", fontsize=9,
        )  # fmt: skip
    ax.set_yticks(range(len(timelines)), timelines)
    ax.invert_yaxis()
    ax.margins(y=0.4)
    longest = max(moments[-1] for moments in timelines.values())
    ax.set(xlabel="seconds since the first delivery", xlim=(-0.05 * longest, longest * 1.5))
    told = "; ".join(
        f"{label}: after {', '.join(f'{moment:.2f}' for moment in moments)} s"
        for label, moments in timelines.items()
    )
    return describe(ax, f"Deliveries of one failing message over time. {told}.")


def order(designs: pd.DataFrame) -> Axes:
    """The price of order: a row a design, columns `messages / s` and `out of order`."""
    _, grid = plt.subplots(1, 2, figsize=(8, 0.9 + 0.5 * len(designs)), layout="constrained", sharey=True)
    for ax, column, colour, hatch in zip(grid, designs, (BLUE, VERMILION), HATCHES, strict=False):
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="x", color="0.9")
        ax.set_axisbelow(True)
        bars = ax.barh(designs.index, designs[column], 0.6, color=colour, hatch=hatch, edgecolor="white")
        ax.bar_label(bars, [f" {value:,.0f}" for value in designs[column]])
        ax.set(xlabel=column, xlim=(0, max(1, designs[column].max()) * 1.18))
    grid[0].invert_yaxis()
    told = "; ".join(
        f"{design}: {row.iloc[0]:,.0f} messages a second, {row.iloc[1]:.0f} out of order"
        for design, row in designs.iterrows()
    )
    return describe(grid[0], f"Throughput and violations of order by design. {told}.")


def revenue(windows: pd.Series, expected: pd.Series, seen: int) -> Axes:
    """USD for each hour: what the stream said so far, inside the outline of what the data file says."""
    ax = axes(height=3.2)
    hours = expected.index
    places = np.arange(len(hours))
    ax.bar(places, windows.reindex(hours, fill_value=0), 0.7, color=BLUE, label="stream, so far")
    ax.bar(places, expected, 0.9, facecolor="none", edgecolor="black", linestyle=":", label="data file")
    ax.set_xticks(places, [f"{hour:%H:%M}" for hour in hours], rotation=45, fontsize=9)
    ax.set(
        ylabel="USD",
        ylim=(0, expected.max() * 1.1),
        xlabel=f"order placed in the hour from, {hours[0]:%d %B %Y}",
    )
    ax.set_title(f"{seen} payments: {windows.sum():,.2f} USD", loc="left", fontsize=10)
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return describe(
        ax,
        f"Revenue by hour after {seen} payments: {windows.sum():,.2f} of {expected.sum():,.2f} USD; "
        f"the busiest hour starts at {expected.idxmax():%H:%M}.",
    )


def consumer_outage(samples: pd.DataFrame, killed: float) -> Axes:
    """Orders placed and paid (columns, cumulative, beside `seconds`) around a kill."""
    ax = axes()
    seconds, top, still = samples["seconds"], samples["placed"].max(), {}
    for column, colour, line in (("placed", BLUE, "-"), ("paid", VERMILION, "--")):
        ax.step(
            seconds, samples[column], where="post", color=colour, linestyle=line, linewidth=2, label=column
        )
        moments = seconds[samples[column].diff() > 0]
        still[column] = moments.diff().max()
    ax.axvline(killed, color="0.3", linewidth=1.2, linestyle=":")
    ax.annotate(
        "SIGKILL, the consumer's leader", (killed, top), xytext=(6, 6), textcoords="offset points", fontsize=9
    )
    ax.set(xlabel="seconds", ylabel="orders", ylim=(0, top * 1.12))
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    told = ", ".join(f"{label} stands still for {gap:.1f} s" for label, gap in still.items())
    return describe(
        ax, f"Orders over time around the kill of the consumer's leader: {told}; both end at {top}."
    )


def redraw(ax: Axes, handle: DisplayHandle | None = None) -> DisplayHandle:
    """Displays the figure of `ax`, or puts it in the place of the one before; returns the handle."""
    figure, alt = ax.figure, {"image/png": {"alt": ax.figure.alt}}
    if handle is None:
        handle = display(figure, display_id=True, metadata=alt)
    else:
        handle.update(figure, metadata=alt)
    plt.close(figure)
    return handle


def live_lag(samples: pd.DataFrame) -> Axes:
    """The three numbers now and in the last seconds: seconds, pending, ack_pending, redelivered, workers."""
    ax = axes(height=3)
    names = ("pending", "ack_pending", "redelivered", "workers")
    for name, colour, line in zip(names, (BLUE, GREEN, VERMILION, "black"), LINES, strict=False):
        label = f"{name.replace('_', ' ')}: {samples[name].iloc[-1]:.0f}"
        step = "steps-post" if name == "workers" else "default"
        ax.plot(samples["seconds"], samples[name], color=colour, linestyle=line, drawstyle=step, label=label)
    first, last = samples["seconds"].iloc[[0, -1]]
    ax.set(xlabel="seconds", ylabel="messages; workers", xlim=(first, max(last, first + 5)))
    ax.set_ylim(0, max(10, samples[list(names)].max().max() * 1.1))
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    now = ", ".join(f"{name.replace('_', ' ')} {samples[name].iloc[-1]:.0f}" for name in names)
    return describe(ax, f"The consumer's numbers over the last seconds. Now: {now}.")
