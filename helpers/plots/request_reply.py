"""The plots of notebook 03."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, PercentFormatter

from . import BLACK, BLUE, COLOURS, GREEN, HATCHES, LINES, ORANGE, VERMILION, axes, describe


def _lanes(ax: Axes, names: list[str]) -> None:
    """Names on the y axis, the first on top, and a vertical grid."""
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.45, -0.6)
    ax.grid(axis="y", visible=False)
    ax.grid(axis="x", color="0.9")


def answered(answers: pd.DataFrame, marks: dict[str, float], bins: int = 24) -> Axes:
    """Each responder's share of the answers over time.

    `answers` has `second` and `responder`, a row an answer; `marks` gives labelled moments on the same clock.
    """
    began = answers["second"].min()
    answers = answers.assign(second=answers["second"] - began)
    marks = {label: second - began for label, second in marks.items()}
    edges = np.linspace(0, answers["second"].max(), bins + 1)
    cut = pd.cut(answers["second"], edges, labels=edges[:-1], include_lowest=True)
    counts = answers.groupby([cut, "responder"], observed=False).size().unstack(fill_value=0)
    parts = counts.div(counts.sum(axis=1).where(lambda n: n > 0), axis=0).fillna(0)
    ax = axes()
    bottom = np.zeros(len(parts))
    for name, colour, hatch in zip(parts, COLOURS, HATCHES, strict=False):
        ax.bar(
            edges[:-1], parts[name], np.diff(edges) * 0.92, bottom=bottom, align="edge",
            color=colour, hatch=hatch, edgecolor="white", linewidth=0.4, label=name,
        )  # fmt: skip
        bottom += parts[name].to_numpy()
    for label, second in marks.items():
        ax.axvline(second, color=BLACK, linestyle="--", linewidth=1.2)
        ax.annotate(label, (second, 1.02), xytext=(3, 0), textcoords="offset points", fontsize=9, va="bottom")
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set(xlabel="seconds", ylabel="share of the answers", ylim=(0, 1.12))
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    total = answers["responder"].value_counts()
    return describe(
        ax,
        "Share of the answers by responder over time, with the moments "
        + " and ".join(marks)
        + " marked; in all "
        + ", ".join(f"{name} {count}" for name, count in total.sort_index().items())
        + ".",
    )


def endings(counts: pd.DataFrame) -> Axes:
    """Requests by what became of them: a row a way of leaving, a column an outcome; stacked."""
    ax = axes(height=2.6)
    _lanes(ax, list(counts.index))
    left = np.zeros(len(counts))
    for column, colour, hatch in zip(counts, (BLUE, GREEN, VERMILION), ("", "..", "//"), strict=True):
        bars = ax.barh(
            range(len(counts)), counts[column], 0.6, left=left,
            color=colour, hatch=hatch, edgecolor="white", label=column,
        )  # fmt: skip
        ax.bar_label(
            bars, [str(n) if n else "" for n in counts[column]], label_type="center", fontsize=9,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.9},
        )  # fmt: skip
        left += counts[column].to_numpy()
    for text in ax.texts:
        text.set_visible(bool(text.get_text()))
    ax.set(xlabel="requests in hand when one responder left")
    ax.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.45, 1.24), ncols=3)
    sums = "; ".join(
        f"{how}: " + ", ".join(f"{n} {what}" for what, n in row.items()) for how, row in counts.iterrows()
    )
    return describe(ax, f"What became of the requests in hand when one of three responders left. {sums}.")


def waterfall(spans: pd.DataFrame) -> Axes:
    """One order across services: a row a span, with `service`, `operation`, `start` and `seconds` (s)."""
    spans = spans.sort_values("start", ignore_index=True)
    start = (spans["start"] - spans["start"].min()) * 1000
    took = spans["seconds"] * 1000
    ax = axes(height=0.9 + 0.45 * len(spans))
    _lanes(ax, [f"{s}: {o}" for s, o in zip(spans["service"], spans["operation"], strict=True)])
    services = list(dict.fromkeys(spans["service"]))
    for i, service in enumerate(spans["service"]):
        look = services.index(service)
        ax.barh(i, took[i], 0.55, left=start[i], color=COLOURS[look], hatch=HATCHES[look], edgecolor="white")
        ax.annotate(
            f"{took[i]:.1f} ms",
            (start[i] + took[i], i),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
        )
    ax.set(xlabel="milliseconds since the order was placed", xlim=(0, (start + took).max() * 1.14))
    parts = ", ".join(
        f"{s} {o} from {a:.0f} to {a + t:.0f} ms"
        for s, o, a, t in zip(spans["service"], spans["operation"], start, took, strict=True)
    )
    return describe(ax, f"Waterfall of one order over {len(services)} services: {parts}.")


def gathered(answers: pd.DataFrame, silent: list[str], deadline: float) -> Axes:
    """When each store answered (`store`, `seconds`), who did not, and where the wait ended (s)."""
    names = [*answers["store"], *silent]
    ax = axes(height=2.6)
    _lanes(ax, names)
    ax.hlines(range(len(answers)), 0, answers["seconds"], color=BLUE, linewidth=2)
    ax.plot(answers["seconds"], range(len(answers)), "o", color=BLUE, markersize=8)
    for i in range(len(answers), len(names)):
        ax.hlines(i, 0, deadline, color=VERMILION, linestyle=":", linewidth=2)
        ax.plot(deadline, i, "X", color=VERMILION, markersize=9)
    ax.axvline(deadline, color=BLACK, linestyle="--", linewidth=1.2)
    ax.annotate("deadline", (deadline, -0.35), xytext=(-5, 0), textcoords="offset points", ha="right")
    ax.set(xlabel="seconds since the question", xlim=(0, deadline * 1.05))
    times = ", ".join(
        f"{s} after {t:.2f} s" for s, t in zip(answers["store"], answers["seconds"], strict=True)
    )
    return describe(ax, f"Answers to one question: {times}; {', '.join(silent)} not by {deadline} s.")


def latency(samples: pd.DataFrame) -> Axes:
    """The share of requests answered within a time: `responders`, `at once`, `ms`; one curve a pair."""
    ax = axes(height=4)
    groups = samples.groupby(["responders", "at once"], sort=True)
    loads = sorted(samples["at once"].unique())
    colours = {1: VERMILION, 3: BLUE}  # three have markers too, for greyscale
    for (count, at_once), rows in groups:
        ms = np.sort(rows["ms"])
        ax.step(
            ms, np.arange(1, len(ms) + 1) / len(ms), where="post", linewidth=2,
            marker="o" if count == 3 else None, markersize=5, markevery=max(1, len(ms) // 8),
            color=colours.get(count, ORANGE), linestyle=LINES[loads.index(at_once)],
            label=f"{count} responder{'s' * (count > 1)}, {at_once} at once",
        )  # fmt: skip
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda ms, _: f"{ms:g}"))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.grid(axis="x", color="0.9")
    ax.set(xlabel="milliseconds from request to answer", ylabel="answered by then", ylim=(0, 1.02))
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    medians = ", ".join(
        f"{count} with {at_once} at once {rows['ms'].median():.1f} ms" for (count, at_once), rows in groups
    )
    return describe(
        ax, f"Cumulative share of requests answered over latency; medians by responders: {medians}."
    )
