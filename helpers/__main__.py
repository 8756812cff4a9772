"""`python -m helpers lab | reset | doctor`: what the Makefile's verbs call, on any system."""

import argparse
import sys


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m helpers", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="lab | reset | doctor")
    verbs.add_parser("lab", help="lay your copies into lab/ and open JupyterLab on them")
    reset = verbs.add_parser("reset", help="put one copy, or all, back to the start; yours is kept")
    reset.add_argument("notebook", nargs="?", default="", help="its number or name, as 02; without, all")
    doctor = verbs.add_parser("doctor", help="look at this machine, and say what to repair")
    doctor.add_argument("--json", action="store_true", help="the same for programs")
    asked, rest = parser.parse_known_args()
    if rest and asked.verb != "lab":  # what follows `lab` is JupyterLab's
        parser.error(f"unrecognized arguments: {' '.join(rest)}")

    if asked.verb == "lab":
        from .lab import main

        main(rest)
    elif asked.verb == "reset":
        from .lab import reset

        reset(asked.notebook)
    else:
        from .doctor import main

        sys.exit(main(asked.json))


main()
