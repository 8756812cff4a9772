"""The plots, a module a notebook, a function a plot: data frame in, Axes out, alt text with it.

One style for all: the Okabe-Ito colours, each with a line style and a marker of its own, so that no
plot needs colour to be read.
"""

from IPython.display import DisplayHandle, display
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

# Okabe and Ito, "Color Universal Design" (2008): distinct under every common colour blindness.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000",
)  # fmt: skip
COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK)
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo")


def axes(width: float = 8, height: float = 3.6) -> Axes:
    """Axes in the lessons' style, on a figure of its own; no global setting is touched."""
    _, ax = plt.subplots(figsize=(width, height), layout="constrained")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="0.9")
    ax.set_axisbelow(True)
    return ax


def describe(ax: Axes, alt: str) -> Axes:
    """Attaches the sentence that stands for the picture where it cannot be seen."""
    ax.figure.alt = alt
    return ax


def redraw(ax: Axes, handle: DisplayHandle | None = None) -> DisplayHandle:
    """Displays the figure of `ax` with its alt text, or puts it in the place of the one before; closes it."""
    figure, alt = ax.figure, {"image/png": {"alt": ax.figure.alt}}
    if handle is None:
        handle = display(figure, display_id=True, metadata=alt)
    else:
        handle.update(figure, metadata=alt)
    plt.close(figure)  # so that no second copy appears
    return handle


def show(ax: Axes) -> None:
    """Displays the figure of `ax`, as the end of a cell."""
    redraw(ax)


from .clustering import topology
from .consumer_groups import live_lag
from .persistence import ladder, retention
from .request_reply import answered, latency, waterfall
