"""The plot of notebook 02 and its panel: the cluster as a picture."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from nats.js.api import ClusterInfo

from . import BLACK, BLUE, axes, describe

# Where four nodes stand; any other number stands on a circle.
SQUARE = [(-1.0, 0.62), (1.0, 0.62), (1.0, -0.62), (-1.0, -0.62)]
FACES = {"running": "white", "paused": "#FBE5B6", "isolated": "#D6EAF5", "down": "0.85"}


def topology(
    routes: Mapping[str, Sequence[str] | None],
    groups: Mapping[str, ClusterInfo | None],
    meta: str | None = None,
    states: Mapping[str, str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """A box a node, a line where two nodes name each other, a badge a replica, filled where it leads.

    `routes` gives to each node the names that its `/routez` lists, None where it does not answer; `groups`
    what `stream_info` and `consumer_info` say, by name; `meta` is the meta leader. `states` (by default
    "running") may say "paused", "isolated" or "down": such a node's lines are dotted.
    """
    ax = ax or axes(8, 4.4)
    ax.grid(False)
    ax.set_axis_off()
    states = dict.fromkeys(routes, "running") | dict(states or {})
    places = dict(zip(routes, SQUARE if len(routes) == 4 else _circle(len(routes)), strict=True))
    lines = []
    for i, one in enumerate(routes):
        for other in list(routes)[i + 1 :]:
            if other in (routes[one] or ()) and one in (routes[other] or ()):
                lines.append(f"{one} and {other}")
                whole = states[one] == states[other] == "running"
                style = {"color": "0.45"} if whole else {"color": "0.75", "linestyle": ":"}
                ax.plot(*zip(places[one], places[other], strict=True), zorder=1, **style)
    badges = {name: [("meta", True)] if name == meta else [] for name in routes}
    for label, group in groups.items():
        for name in badges if group else ():
            if name == group.leader or name in {peer.name for peer in group.replicas or []}:
                badges[name].append((label, name == group.leader))
    for name, (x, y) in places.items():
        _box(ax, x, y, name, states[name], badges[name])
    ax.set(xlim=(-1.6, 1.6), ylim=(-1.15, 1.25), title="Who has routes to whom, and who leads what")
    led = "; ".join(f"{n} is led by {(g and g.leader) or 'nobody'}" for n, g in groups.items())
    nodes = ", ".join(f"{name} {state}" for name, state in states.items())
    return describe(ax, f"Topology: {nodes}. {len(lines)} pairs of nodes have routes. {led}.")


def _circle(count: int) -> list[tuple[float, float]]:
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return [(float(np.sin(angle)), 0.75 * float(np.cos(angle))) for angle in angles]


def _box(ax: Axes, x: float, y: float, name: str, state: str, badges: list[tuple[str, bool]]) -> None:
    down = state == "down"
    box = FancyBboxPatch(
        (x - 0.5, y - 0.45), 1, 0.9, boxstyle="round,pad=0.02", zorder=2, facecolor=FACES[state],
        edgecolor=BLACK, linestyle="--" if down else "-", hatch="//" if down else None,
    )  # fmt: skip
    ax.add_patch(box)
    title = name if state == "running" else f"{name}: {state}"
    boxed = {"facecolor": "white", "edgecolor": "none", "pad": 1.5} if down else None
    ax.text(x, y + 0.34, title, ha="center", va="center", weight="bold", zorder=4, bbox=boxed)
    for place, (label, leads) in enumerate(badges):
        column, row = place % 2, place // 2
        middle = x if len(badges) == 1 else x + (-0.24, 0.24)[column]
        ax.text(
            middle, y + 0.11 - 0.22 * row, label, ha="center", va="center", fontsize=8, zorder=4,
            color="white" if leads else BLACK, weight="bold" if leads else "normal",
            bbox={"boxstyle": "round,pad=0.3", "facecolor": BLUE if leads else "white", "edgecolor": BLUE},
        )  # fmt: skip
