"""The plots of notebook 02."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import MaxNLocator

from . import BLACK, BLUE, COLOURS, GREEN, HATCHES, LINES, MARKERS, ORANGE, SKY, VERMILION, axes, describe

# Where four nodes stand; any other number stands on a circle.
SQUARE = [(-1.0, 0.62), (1.0, 0.62), (1.0, -0.62), (-1.0, -0.62)]
FACES = {"running": "white", "paused": "#FBE5B6", "isolated": "#D6EAF5", "down": "0.85"}


def topology(
    nodes: pd.DataFrame, streams: Mapping[str, tuple[str | None, Sequence[str]]], ax: Axes | None = None
) -> Axes:
    """The cluster as it is now: a box a node, a line a route, a badge a stream's replica.

    `nodes` as of `monitor.nodes`, its `state` may also be "isolated"; `streams` gives each stream's
    leader (None where there is none) and the nodes that follow it.
    """
    ax = ax or axes(8, 4.2)
    ax.grid(False)
    ax.set_axis_off()
    places = dict(zip(nodes.index, SQUARE if len(nodes) == 4 else _circle(len(nodes)), strict=True))
    reachable = [name for name in nodes.index if nodes.state[name] in ("running", "paused")]
    for i, one in enumerate(nodes.index):
        for other in nodes.index[i + 1 :]:
            whole = one in reachable and other in reachable
            ax.plot(
                *zip(places[one], places[other], strict=True),
                color="0.45" if whole else "0.8",
                linestyle="-" if whole else ":",
                linewidth=1.4,
                zorder=1,
            )
    for name, (x, y) in places.items():
        _box(ax, x, y, name, nodes.loc[name], streams)
    ax.set(xlim=(-1.75, 1.75), ylim=(-1.12, 1.12))
    led = "; ".join(f"{stream} is led by {leader or 'nobody'}" for stream, (leader, _) in streams.items())
    states = ", ".join(f"{name} {state}" for name, state in nodes.state.items())
    return describe(ax, f"Topology of the cluster, a route between every two nodes. {states}. {led}.")


def _circle(count: int) -> list[tuple[float, float]]:
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return [(float(np.sin(angle)), 0.75 * float(np.cos(angle))) for angle in angles]


def _box(ax: Axes, x: float, y: float, name: str, node: pd.Series, streams: Mapping) -> None:
    down = node.state == "down"
    box = FancyBboxPatch(
        (x - 0.62, y - 0.34), 1.24, 0.68, boxstyle="round,pad=0.02", zorder=2, facecolor=FACES[node.state],
        edgecolor=BLACK, linewidth=1.4, linestyle="--" if down else "-", hatch="//" if down else None,
    )  # fmt: skip
    ax.add_patch(box)
    boxed = {"facecolor": "white", "edgecolor": "none", "pad": 1.5} if down else None
    ax.text(x, y + 0.23, name, ha="center", va="center", weight="bold", zorder=4, bbox=boxed)
    clients = "" if pd.isna(node.get("connections")) else f", clients: {node.connections:.0f}"
    text = node.state + (clients if node.state != "down" else "")
    ax.text(x, y + 0.05, text, ha="center", va="center", fontsize=9, zorder=4, bbox=boxed)
    badges = [("meta", True)] if node.get("meta_leader") is True or node.get("meta_leader") == 1 else []
    badges += [(stream, leader == name) for stream, (leader, others) in streams.items()
               if leader == name or name in others]  # fmt: skip
    step = min(0.4, 1.16 / max(1, len(badges)))
    for place, (label, leads) in enumerate(badges):
        ax.text(
            x + (place - (len(badges) - 1) / 2) * step, y - 0.2, label, ha="center", va="center",
            fontsize=7.5, color="white" if leads else BLACK, weight="bold" if leads else "normal", zorder=4,
            bbox={"boxstyle": "round,pad=0.25", "facecolor": BLUE if leads else "white", "edgecolor": BLUE,
                  "linestyle": "-" if leads else "--"},
        )  # fmt: skip


def spread(counts: pd.DataFrame) -> Axes:
    """What each node carries: a row a node, a column a kind of load, as counts; grouped bars."""
    ax = axes(8, 3)
    width = 0.8 / len(counts.columns)
    for i, (column, colour, hatch) in enumerate(zip(counts, COLOURS, HATCHES, strict=False)):
        places = np.arange(len(counts)) + (i - (len(counts.columns) - 1) / 2) * width
        bars = ax.bar(
            places, counts[column], width * 0.92, label=column, color=colour, hatch=hatch, edgecolor="white"
        )
        ax.bar_label(bars, fontsize=9)
    ax.set_xticks(range(len(counts)), counts.index)
    ax.set(ylabel="count")
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    text = "; ".join(
        f"{node}: " + ", ".join(f"{count} {column}" for column, count in row.items())
        for node, row in counts.iterrows()
    )
    return describe(ax, f"What each node carries. {text}.")


def widest(seconds: Sequence[float]) -> tuple[float, float]:
    """The longest stretch without an acknowledgement: where it begins, and how long it is, in seconds."""
    seconds = np.asarray(seconds)
    place = int(np.diff(seconds).argmax())
    return float(seconds[place]), float(seconds[place + 1] - seconds[place])


def gaps(acked: Mapping[str, Sequence[float]], timer: tuple[float, float] = (4, 9)) -> Axes:
    """A row a fault, a tick an acknowledgement, at its seconds since the fault.

    `timer` is the interval in which a Raft follower that hears nothing asks for votes
    (`minElectionTimeout` and `maxElectionTimeout` in the server's raft.go).
    """
    ax = axes(9, 0.75 * len(acked) + 1.2)
    ax.grid(False)
    ax.axvspan(*timer, facecolor="0.93", edgecolor="0.75", hatch="..", linewidth=0, zorder=0)
    ax.text(
        sum(timer) / 2, -0.62, "an election begins in here", ha="center", va="center", fontsize=9,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
    )  # fmt: skip
    found = {}
    for place, ((fault, seconds), colour) in enumerate(zip(acked.items(), COLOURS, strict=False)):
        seconds = np.sort(np.asarray(seconds))
        ax.eventplot(seconds, lineoffsets=place, linelengths=0.5, linewidths=0.8, colors=colour)
        begin, length = widest(seconds[seconds > -0.2])
        found[fault] = length
        ax.annotate(
            f"{length:.1f} s" if length >= 1 else f"{length * 1e3:.0f} ms",
            (begin + length / 2 if length >= 1 else begin, place - 0.25 * (length < 1)),
            xytext=(0, 0 if length >= 1 else 8), textcoords="offset points",
            ha="center", va="center", weight="bold", fontsize=10,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
        )  # fmt: skip
    ax.axvline(0, color=VERMILION, linestyle="--", linewidth=1.5)
    ax.set_yticks(range(len(acked)), acked)
    ax.set(xlabel="seconds since the fault", ylim=(len(acked) - 0.5, -0.85))
    text = ", ".join(f"{fault} {length:.2f} s" for fault, length in found.items())
    return describe(ax, f"Acknowledgements around a fault on the leader; the longest gap of each: {text}.")


def rolling(acked: Sequence[float], restarts: Mapping[str, tuple[float, float]], bin_: float = 0.2) -> Axes:
    """Acknowledgements a second over time, with the seconds in which each node was away shaded."""
    ax = axes(9, 3)
    end = max([*acked, *(back for _, back in restarts.values())])
    counts, edges = np.histogram(acked, np.arange(0, end + bin_, bin_))
    for place, (node, (begin, back)) in enumerate(restarts.items()):
        ax.axvspan(
            begin, back, facecolor="0.88", edgecolor="0.6", hatch=("//", "\\\\")[place % 2], linewidth=0
        )
        ax.text(
            (begin + back) / 2, 1.05, node.removeprefix("nats-"), fontsize=9, ha="center",
            transform=ax.get_xaxis_transform(),
        )  # fmt: skip
    ax.step(edges[:-1], counts / bin_, where="post", color=BLUE, linewidth=2)
    ax.set(xlabel="seconds", ylabel="orders acknowledged\nper second", ylim=(0, None), xlim=(0, end))
    return describe(
        ax,
        f"Orders acknowledged per second while {len(restarts)} nodes restart one after another: between "
        f"{counts[:-2].min() / bin_:.0f} and {counts.max() / bin_:.0f}.",
    )


def truth(table: pd.DataFrame) -> Axes:
    """What still works (True) by what is down: a row a state of the cluster, a column a thing to do."""
    ax = axes(8, 0.55 * len(table) + 1)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    for y, (_, row) in enumerate(table.iterrows()):
        for x, works in enumerate(row):
            ax.add_patch(
                FancyBboxPatch(
                    (x - 0.44, y - 0.38), 0.88, 0.76, boxstyle="round,pad=0.02", edgecolor="0.5",
                    facecolor=SKY if works else "white", hatch=None if works else "///", linewidth=0.8,
                )
            )  # fmt: skip
            ax.text(
                x, y, "works" if works else "fails", ha="center", va="center",
                weight="bold" if works else "normal",
                bbox=None if works else {"facecolor": "white", "edgecolor": "none", "pad": 2},
            )  # fmt: skip
    ax.set_xticks(range(len(table.columns)), table.columns)
    ax.set_yticks(range(len(table)), table.index)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.set(xlim=(-0.5, len(table.columns) - 0.5), ylim=(len(table) - 0.5, -0.5))
    rows = "; ".join(
        f"{state}: " + ", ".join(f"{what} {'works' if ok else 'fails'}" for what, ok in row.items())
        for state, row in table.iterrows()
    )
    return describe(ax, f"What works with nodes down. {rows}.")


def sides(events: Mapping[str, pd.DataFrame], marks: Mapping[str, float]) -> Axes:
    """A row a client: its attempts over time, acknowledged (filled, above) or not (a cross, below).

    Each frame has the columns seconds and acked (boolean); `marks` gives a label and its second.
    """
    ax = axes(9, 0.9 * len(events) + 1.2)
    ax.grid(False)
    for place, ((_, frame), colour) in enumerate(zip(events.items(), COLOURS, strict=False)):
        good, bad = frame[frame.acked], frame[~frame.acked]
        ax.plot(good.seconds, [place - 0.12] * len(good), "|", color=colour, markersize=14)
        ax.plot(bad.seconds, [place + 0.15] * len(bad), "x", color=BLACK, markersize=7)
    for label, second in marks.items():
        ax.axvline(second, color="0.35", linestyle=":", linewidth=1.2)
        ax.annotate(
            label, (second, -0.62), xytext=(4, 0), textcoords="offset points", fontsize=9, va="center"
        )
    ax.set_yticks(range(len(events)), events)
    ax.set(xlabel="seconds     (| acknowledged, × timed out or refused)", ylim=(len(events) - 0.5, -0.8))
    text = "; ".join(
        f"{side}: {frame.acked.sum()} acknowledged, {(~frame.acked).sum()} not"
        for side, frame in events.items()
    )
    return describe(ax, f"Publishing on both sides of a partition. {text}.")


def catch_up(held: pd.DataFrame, asked: float) -> Axes:
    """Messages each node holds of a stream over time: index seconds, a column a node."""
    ax = axes(8, 3)
    for column, colour, line, marker in zip(held, COLOURS, LINES, MARKERS, strict=False):
        ax.plot(
            held.index, held[column], color=colour, linestyle=line, marker=marker, label=column, linewidth=2,
            markersize=5, markevery=max(1, len(held) // 12),
        )  # fmt: skip
    ax.axvline(asked, color=VERMILION, linestyle="--", linewidth=1.5)
    ax.annotate(
        "num_replicas=3", (asked, held.max().max() * 1.08), xytext=(5, 0), textcoords="offset points",
        color=VERMILION, va="center",
    )  # fmt: skip
    ax.set(xlabel="seconds", ylabel="messages held", ylim=(0, held.max().max() * 1.18))
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    ends = ", ".join(f"{column} {held[column].iloc[-1]:.0f}" for column in held)
    return describe(
        ax, f"Messages of the stream on each node while it grows from one replica to three: {ends}."
    )


def region_latency(answers: pd.DataFrame) -> Axes:
    """The time of each request in the order asked, by who answered: columns phase, ms, by; logarithmic."""
    ax = axes(9, 3.2)
    answers = answers.reset_index(drop=True)
    for (by, some), colour, marker in zip(answers.groupby("by"), COLOURS, MARKERS, strict=False):
        ax.plot(some.index, some.ms, marker, color=colour, markersize=5, label=f"answered in {by}")
    for place, (phase, some) in enumerate(answers.groupby("phase", sort=False)):
        if place:
            ax.axvline(some.index[0] - 0.5, color="0.6", linestyle=":", linewidth=1.2)
        ax.text(
            some.index.to_numpy().mean(), 1.05, f"{phase}\nmedian {some.ms.median():.1f} ms",
            ha="center", va="bottom", fontsize=9, transform=ax.get_xaxis_transform(),
        )  # fmt: skip
    ax.set_yscale("log")
    ax.set_yticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    ax.set(
        xlabel="request",
        ylabel="round trip, ms (logarithmic)",
        ylim=(min(0.1, answers.ms.min()) / 1.5, max(100, answers.ms.max()) * 3),
    )
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    medians = answers.groupby("phase", sort=False).ms.median()
    text = ", ".join(f"{phase} {ms:.1f} ms" for phase, ms in medians.items())
    return describe(ax, f"Round trip of requests from a client in eu-west, median by phase: {text}.")


def health(nodes: pd.DataFrame) -> Axes:
    """Four small charts of `monitor.nodes`: a bar a node, one chart a column."""
    ax = axes(9, 2.6)
    figure = ax.figure
    ax.remove()
    panels = {
        "JetStream store, MB": nodes.store / 1e6,
        "clients": nodes.connections,
        "API errors": nodes.api_errors,
        "uptime, s": nodes.uptime,
    }
    short = [name.removeprefix("nats-server-") for name in nodes.index]

    def label(value: float) -> str:
        return f"{value:,.0f}" if value >= 10 else f"{value:,.1f}".removesuffix(".0")

    for ax, (title, values), colour, hatch in zip(
        figure.subplots(1, 4), panels.items(), (BLUE, ORANGE, VERMILION, GREEN), HATCHES, strict=False
    ):
        bars = ax.bar(short, values, color=colour, hatch=hatch, edgecolor="white")
        ax.bar_label(bars, [label(value) for value in values], fontsize=8)
        ax.set_title(title, fontsize=10)
        ax.spines[["top", "right"]].set_visible(False)
        ax.margins(y=0.15)
        ax.yaxis.set_major_locator(MaxNLocator(5, integer=title in ("clients", "API errors")))
        ax.set_xlabel("node")
    text = "; ".join(f"{title}: " + ", ".join(map(label, values)) for title, values in panels.items())
    return describe(ax, f"Health of the nodes {', '.join(nodes.index)}. {text}.")
