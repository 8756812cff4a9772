"""Self-checks of the exercises, a module a notebook, a function an exercise.

Each asks the live cluster and answers one of three ways: not attempted, not yet (with a hint from what
the server says), correct. It never raises for what a learner did, and changes nothing.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """What a check found; as a cell's last value it reads as one line."""

    state: str  # "not attempted", "not yet" or "correct"
    message: str

    def __repr__(self) -> str:
        return f"{self.state.capitalize()}: {self.message}"


def not_attempted(message: str) -> Outcome:
    return Outcome("not attempted", message)


def not_yet(hint: str) -> Outcome:
    return Outcome("not yet", hint)


def correct(message: str) -> Outcome:
    return Outcome("correct", message)
