"""What exists only because this is a lesson: the cluster, real orders, measuring, plots, checks."""

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

if "JPY_SESSION_NAME" in os.environ:  # a kernel of JupyterLab, which says so which notebook it runs
    from pathlib import Path

    from .lab import told_age

    if told := told_age(Path(os.environ["JPY_SESSION_NAME"])):
        print(told)
