"""What must hold, and whatever was seen that did not."""

from collections import Counter
from enum import StrEnum


class Invariant(StrEnum):
    """What must hold; each is a line of the table at the end."""

    ROWS = "No acknowledged row is lost, none doubled, none there that nobody sent"
    SETTINGS = "Hours and zones are those that were acknowledged last"
    REPORTS = "Every report that was asked for ends, and completes"
    FILES = "The folder holds the file of every completed report, and nothing else"
    NUMBERS = "Every report equals one made alone on the same data"
    ANSWERS = "Every answer is the one that the request must get, never a 500"
    IN_TIME = "Every answer comes in time; an error only during a fault"
    RECOVERY = "Every instance is ready again soon after a fault"
    ENDING = "An instance that is told to end does, and leaves no process"
    FLAT = "Memory, descriptors and processes stay flat"
    LOGS = "No stack in the logs"


class Findings:
    """What did not hold, by what it is against.

    Attributes:
        figures: of each invariant that was looked at, what was counted
    """

    def __init__(self) -> None:
        self.figures: dict[Invariant, str] = {}
        self._against: dict[Invariant, Counter[str]] = {one: Counter() for one in Invariant}

    def add(self, against: Invariant, what: str) -> None:
        """Note something; what reads the same is counted, not repeated."""
        if not self._against[against][what]:
            print(f"    ! {what}", flush=True)
        self._against[against][what] += 1

    def against(self, invariant: Invariant) -> list[tuple[str, int]]:
        """What was noted against one, and how often."""
        return list(self._against[invariant].items())

    def __bool__(self) -> bool:
        return any(self._against.values())
