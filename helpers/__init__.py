"""What exists only because this is a lesson: the cluster, real orders, measuring, plots, checks."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - an old kernel gets this sentence, not a SyntaxError
    raise ImportError(
        f"The notebooks need Python 3.11 or newer, this kernel runs {sys.version.split()[0]}: "
        "run `make lab`, or choose the kernel of `.venv` (Kernel > Change Kernel)."
    )
