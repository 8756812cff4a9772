"""What was sent, acknowledged and stored: what is lost, what is there twice, what changed places."""

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Verdict:
    """The ledger against what was found; stored but never acked is no fault, the ack was lost."""

    sent: int
    acked: int
    stored: int
    lost: int  # acked, not found
    duplicated: int  # found more often than once
    reordered: int  # found behind an ID that was sent after it

    def __str__(self) -> str:
        signs = ["=" if a == b else "≠" for a, b in ((self.sent, self.acked), (self.acked, self.stored))]
        return (
            f"sent {self.sent:,} {signs[0]} acked {self.acked:,} {signs[1]} stored {self.stored:,}"
            f" · lost {self.lost} · duplicated {self.duplicated} · reordered {self.reordered}"
        )


@dataclass
class Ledger:
    """IDs as they are sent and as their acks come in. IDs are hashable and each is sent once."""

    sent: list[Hashable] = field(default_factory=list)
    acked: set[Hashable] = field(default_factory=set)

    def compare(self, found: Iterable[Hashable]) -> Verdict:
        """Compares with the IDs found in a stream, in the order of their sequence."""
        found = list(found)
        counts = Counter(found)
        rank = {id_: place for place, id_ in enumerate(self.sent)}
        reordered, highest = 0, -1
        for id_ in dict.fromkeys(found):  # the first copy of each
            reordered += rank[id_] < highest
            highest = max(highest, rank[id_])
        return Verdict(
            sent=len(self.sent),
            acked=len(self.acked),
            stored=len(found),
            lost=len(self.acked - counts.keys()),
            duplicated=sum(count > 1 for count in counts.values()),
            reordered=reordered,
        )
