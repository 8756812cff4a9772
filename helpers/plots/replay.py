"""The plots of notebook 05."""

import pandas as pd
from matplotlib import dates
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from . import BLUE, COLOURS, HATCHES, LINES, MARKERS, VERMILION, axes, describe

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def speeds(arrivals: dict[str, list[float]]) -> Axes:
    """Messages received over time: a label and the seconds of each arrival, for each kind of replay."""
    ax = axes()
    for (label, seconds), colour, line, marker in zip(
        arrivals.items(), COLOURS, LINES, MARKERS, strict=False
    ):
        ax.plot(
            seconds, range(1, len(seconds) + 1), color=colour, linestyle=line, marker=marker,
            markersize=4, drawstyle="steps-post", label=label,
        )  # fmt: skip
    ax.set(xlabel="seconds since the first", ylabel="orders")
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    ends = ", ".join(f"{label} ends after {seconds[-1]:.1f} s" for label, seconds in arrivals.items())
    return describe(ax, f"Orders over time as they were stored and as they were replayed: {ends}.")


def recovery(received: pd.Series, killed: float) -> Axes:
    """Messages received over time (index: seconds); at second `killed` the consumer's node was killed."""
    ax = axes()
    ax.plot(received.index, received.to_numpy(), color=BLUE, linewidth=2)
    ax.axvline(killed, color=VERMILION, linestyle="--", linewidth=1.5)
    ax.annotate(
        "SIGKILL", (killed, received.max()), xytext=(6, 0), textcoords="offset points",
        color=VERMILION, va="top",
    )  # fmt: skip
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.set(xlabel="seconds since the first", ylabel="messages received", ylim=(0, received.max() * 1.05))
    silence = received.index.to_series().diff().max()
    return describe(
        ax,
        f"Messages received over time: a rise to {received.max():,}, with a flat stretch of "
        f"{silence:.1f} seconds after the consumer's node was killed.",
    )


def heat_map(orders: pd.DataFrame) -> Axes:
    """Orders by weekday (rows, 0 is Monday) and hour (columns, 0-23)."""
    ax = axes(height=3.2)
    ax.grid(visible=False)
    image = ax.imshow(orders, aspect="auto", cmap="cividis")
    ax.set_yticks(range(7), WEEKDAYS)
    ax.set_xticks(range(0, 24, 3), [f"{hour}:00" for hour in range(0, 24, 3)])
    ax.set(xlabel="hour, UTC−5")
    ax.spines[:].set_visible(False)
    ax.figure.colorbar(image, ax=ax, label="orders in the year", pad=0.02)
    day, hour = orders.stack().idxmax()
    return describe(
        ax,
        f"Heat map of orders by weekday and hour. The busiest hour is {WEEKDAYS[day]} {hour}:00 with "
        f"{orders.loc[day, hour]:,} orders; the nights are almost empty.",
    )


def weekly(revenue: pd.Series, marks: dict[str, str]) -> Axes:
    """Revenue in USD by week (index: its Monday). `marks` names some weeks: a date in it, and a label."""
    ax = axes()
    ax.plot(revenue.index, revenue / 1000, color=BLUE, marker="o", markersize=3.5, linewidth=1.5)
    for day, label in marks.items():
        monday = revenue.index.asof(pd.Timestamp(day))
        place = revenue.index.get_loc(monday)
        peak = revenue[monday] >= revenue.iloc[max(0, place - 2) : place + 3].max()
        ax.annotate(
            label, (monday, revenue[monday] / 1000), xytext=(0, 9 if peak else -26),
            textcoords="offset points", ha="center", fontsize=9, color=VERMILION,
        )  # fmt: skip
        ax.plot(monday, revenue[monday] / 1000, "s", color=VERMILION, markersize=6)
    ax.xaxis.set_major_locator(dates.MonthLocator())
    ax.xaxis.set_major_formatter(dates.DateFormatter("%b"))
    ax.set(ylabel="revenue a week, thousand USD", ylim=(0, revenue.max() / 1000 * 1.15))
    named = ", ".join(
        f"{label} {revenue[revenue.index.asof(pd.Timestamp(day))] / 1000:.0f}" for day, label in marks.items()
    )
    return describe(
        ax,
        f"Revenue by week through the year, in thousand USD: mostly between "
        f"{revenue.quantile(0.1) / 1000:.0f} and {revenue.quantile(0.9) / 1000:.0f}; {named}.",
    )


def departments(revenue: pd.Series) -> Axes:
    """Revenue in USD by department, the largest first."""
    ax = axes()
    ax.grid(axis="y", visible=False)
    ax.grid(axis="x", color="0.9")
    bars = ax.barh(revenue.index, revenue / 1000, color=BLUE, height=0.7)
    ax.bar_label(bars, [f" {value / 1000:,.0f}" for value in revenue], fontsize=9)
    ax.invert_yaxis()
    ax.set(xlabel="revenue in the year, thousand USD")
    ax.set_xlim(right=revenue.max() / 1000 * 1.1)
    first = ", ".join(f"{name} {value / 1000:,.0f}" for name, value in revenue.head(3).items())
    return describe(ax, f"Revenue of the year by department, in thousand USD, led by {first}.")


def rates(rate: pd.Series) -> Axes:
    """Messages per second by replay technique (index), on a logarithmic axis."""
    ax = axes()
    ax.grid(axis="y", visible=False)
    ax.grid(axis="x", color="0.9")
    for place, (value, colour, hatch) in enumerate(zip(rate, COLOURS, HATCHES, strict=False)):
        bar = ax.barh(place, value, color=colour, hatch=hatch, edgecolor="white", height=0.7)
        ax.bar_label(bar, [f" {value:,.0f}"], fontsize=9)
    ax.set_yticks(range(len(rate)), rate.index)
    ax.invert_yaxis()
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set(xlabel="messages replayed per second (logarithmic)")
    ax.set_xlim(rate.min() / 3, rate.max() * 3)
    steps = ", ".join(f"{name}: {value:,.0f}" for name, value in rate.items())
    return describe(ax, f"Messages replayed per second by technique. {steps}.")


def positions(milliseconds: pd.DataFrame) -> Axes:
    """Time to find a position (columns: by what) in streams of so many messages (index)."""
    ax = axes()
    for column, colour, line, marker in zip(milliseconds, COLOURS, LINES, MARKERS, strict=False):
        ax.plot(
            milliseconds.index, milliseconds[column], color=colour, linestyle=line, marker=marker,
            label=column,
        )  # fmt: skip
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.set(xlabel="messages in the stream (logarithmic)", ylabel="milliseconds, median")
    ax.set_ylim(0, max(milliseconds.max().max() * 1.5, 1))
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    low, high = milliseconds.min().min(), milliseconds.max().max()
    return describe(
        ax,
        f"Time to create a consumer in the middle of streams of {milliseconds.index[0]:,} to "
        f"{milliseconds.index[-1]:,} messages: between {low:.1f} and {high:.1f} ms, without a slope.",
    )
