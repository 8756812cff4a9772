"""What exists only because this is a lesson: the cluster, real orders, measuring, plots, checks.

The map: each module, the notebooks that import it, and what it is (a test compares).

backup (5): A stream as one file: the server's snapshot and restore requests, which nats-py has no call
    for.
bulk (1, 5): Many messages at once, on nats-py's public API: batched publishing, and replay by
    overlapping pulls.
check (1, 2, 3, 4, 5): Self-checks of the exercises, a module a notebook, a function an exercise.
classroom (instructor): A shared cluster for a class: an account a student, a certificate, a handout, and
    who is where.
cluster (1, 2, 3, 4, 5, welcome): The cluster the notebooks run on: `open_cluster()` picks a backend and
    returns it ready.
doctor (welcome): Looks at this machine before a lesson does: a check a line, and what is amiss comes
    with its repair.
lab (the command line): A learner's copies of the notebooks, in `lab/`: laid once, kept, put back on
    demand; JupyterLab on them.
ledger (1): What was sent, acknowledged and stored: what is lost, what is there twice, what changed
    places.
lesson (1, 2, 3, 4, 5): What only a notebook needs: an error as an output, and a second try where servers
    die.
monitor (1, 2, 4): What the servers say of themselves, as data frames; and a sampler over time.
orders (1, 2, 3, 4, 5, welcome): The grocer's real orders and products, as typed records and as the JSON
    the services exchange.
panel (2, 4, welcome): Panels to break the cluster by hand, a module a panel: ipywidgets for the mouse,
    attributes for code.
plots (1, 2, 3, 4, 5, welcome): The plots, a module a notebook, a function a plot: data frame in, Axes
    out, alt text with it.
protocol_log (3): What a client really sends: a listener between it and its server that notes the
    protocol's verbs.
responders (3): Inventory Services as processes of their own, so that one can join, leave, or really be
    killed.
services (1, 2, 4): The characters of the course, each as the cell that introduced it builds it: a test
    compares both.
tracing (3): Correlation IDs: a context variable, the header that carries it, a log filter, and spans as
    a data frame.
"""

import os
import sys

if sys.version_info < (3, 11):  # noqa: UP036 - an old kernel gets this sentence, not a SyntaxError
    sentence = (
        f"The notebooks need Python 3.11 or newer, this one is {sys.version.split()[0]}: run `make lab "
        "PYTHON=python3.12`, or choose the kernel of `.venv` (Kernel > Change Kernel)."
    )
    if sys.argv[0] == "-m":  # `python -m helpers doctor`: a sentence and no traceback
        sys.exit(sentence)
    raise ImportError(sentence)

# A kernel of JupyterLab, which says so which notebook it runs; not a process that the kernel has started.
if "JPY_SESSION_NAME" in os.environ and "ipykernel" in sys.modules:
    from pathlib import Path

    from .lab import told_age

    if told := told_age(Path(os.environ["JPY_SESSION_NAME"])):
        print(told)
