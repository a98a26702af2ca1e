"""What is wrong with a feed, told by file, line, column and value."""

from collections.abc import Sequence
from dataclasses import dataclass

#: How many faults are listed; the rest are only counted.
FAULTS_SHOWN = 20


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a feed.

    Attributes:
        line: on which the row begins, from 1; 0: it is no single row's
        column: as the file's header names it; empty: the fault is in the row as a whole
        value: of that column
        problem: what is wrong with it
        source: the file, for messages; empty: there is only one
    """

    line: int
    column: str
    value: str
    problem: str
    source: str = ""

    def __str__(self) -> str:
        source = f"{self.source}: " if self.source else ""
        where = f", column {self.column}, value {self.value!r}" if self.column else ""
        line = f"line {self.line}{where}: " if self.line else ""
        return f"{source}{line}{self.problem}"


class FeedRefused(Exception):  # noqa: N818 - it is the feed that is wrong, not the program
    """A feed that cannot be loaded.

    Attributes:
        faults: the first `FAULTS_SHOWN`
        count: how many there are in all
    """

    def __init__(self, faults: Sequence[Fault], count: int) -> None:
        super().__init__(faults, count)
        self.faults, self.count = list(faults), count

    @property
    def summary(self) -> str:
        """How many faults there are, and what that led to."""
        faults = "1 fault" if self.count == 1 else f"{self.count} faults"
        shown = f", the first {len(self.faults)} shown" if self.count > len(self.faults) else ""
        return f"{faults}{shown}; nothing of the feed was stored"

    def __str__(self) -> str:
        return "\n".join([*map(str, self.faults), self.summary])
