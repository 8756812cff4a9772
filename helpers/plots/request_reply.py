"""The plots of notebook 03."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from . import BLACK, BLUE, COLOURS, HATCHES, LINES, VERMILION, axes, describe


def answered(answers: pd.DataFrame, marks: dict[str, float], bins: int = 24) -> Axes:
    """Each responder's share of the answers over time.

    `answers` has `asked` (s) and `responder`, a row an answer; `marks` labelled moments on the same clock.
    """
    began = answers["asked"].min()
    edges = np.linspace(0, answers["asked"].max() - began, bins + 1)
    cut = pd.cut(answers["asked"] - began, edges, labels=edges[:-1], include_lowest=True)
    parts = pd.crosstab(cut, answers["responder"], normalize="index", dropna=False).fillna(0)
    ax, bottom = axes(), np.zeros(len(parts))
    for name, colour, hatch in zip(parts, COLOURS, HATCHES, strict=False):
        ax.bar(
            edges[:-1], parts[name], np.diff(edges) * 0.92, bottom=bottom, align="edge",
            color=colour, hatch=hatch, edgecolor="white", linewidth=0.4, label=name,
        )  # fmt: skip
        bottom += parts[name].to_numpy()
    for label, second in marks.items():
        ax.axvline(second - began, color=BLACK, linestyle="--", linewidth=1.2)
        ax.annotate(label, (second - began, 1.02), xytext=(3, 0), textcoords="offset points", fontsize=9)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set(xlabel="seconds", ylabel="share of the answers", ylim=(0, 1.12))
    ax.set_title("Who answers, while members come and go")
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    total = ", ".join(f"{name} {n}" for name, n in answers["responder"].value_counts().sort_index().items())
    moments = " and ".join(marks)
    return describe(
        ax, f"Share of the answers by responder over time, with marks: {moments}; in all {total}."
    )


def waterfall(spans: pd.DataFrame) -> Axes:
    """One order across services: a row a span, with `service`, `operation`, `start` and `seconds` (s)."""
    spans = spans.sort_values("start", ignore_index=True)
    start, took = (spans["start"] - spans["start"].min()) * 1000, spans["seconds"] * 1000
    names = (spans["service"] + ": " + spans["operation"]).tolist()
    services = list(dict.fromkeys(spans["service"]))
    ax = axes(height=1.3 + 0.45 * len(spans))
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
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.set(xlabel="milliseconds since the order was placed", xlim=(0, (start + took).max() * 1.14))
    ax.set_title(f"One order in {len(services)} services")
    parts = [f"{n} from {a:.0f} to {a + t:.0f} ms" for n, a, t in zip(names, start, took, strict=True)]
    return describe(ax, f"Waterfall of one order in {len(services)} services: {', '.join(parts)}.")


def latency(samples: pd.DataFrame) -> Axes:
    """The share of requests answered within a time: `responders`, `at once`, `ms`; one curve a pair."""
    ax, medians = axes(height=4), []
    loads = sorted(samples["at once"].unique())
    for (count, at_once), rows in samples.groupby(["responders", "at once"]):
        alone = count == 1  # three have markers too, for greyscale
        ax.ecdf(
            rows["ms"], label=f"{count} responder{'s' * (not alone)}, {at_once} at once", linewidth=2,
            color=VERMILION if alone else BLUE, linestyle=LINES[loads.index(at_once)],
            marker=None if alone else "o", markersize=5, markevery=max(1, len(rows) // 8),
        )  # fmt: skip
        medians.append(f"{count} with {at_once} at once {rows['ms'].median():.1f} ms")
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda ms, _: f"{ms:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())  # below a decade or two it would label all, overlapping
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set(xlabel="milliseconds from request to answer", ylabel="answered by then", ylim=(0, 1.02))
    ax.set_title("How long a request takes, by responders and load")
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return describe(ax, f"Share of requests answered within a time; medians: {', '.join(medians)}.")
