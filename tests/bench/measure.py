"""Times taken in turns, and the memory of a whole family of processes."""

import statistics
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from types import TracebackType

import psutil
from rich.console import Console
from rich.table import Table

console = Console(width=100)

Seconds = list[float]


def in_turns(contestants: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, Seconds]:
    """Run everybody once a round, so that a noisy machine is noisy to all of them."""
    taken: dict[str, Seconds] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            begin = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - begin)
    return taken


def show(title: str, taken: Mapping[str, Seconds], against: str) -> None:
    """Print medians, spread and ratios; a ratio is of one round, then the median over rounds."""
    table = Table("", "median s", "best s", "worst s", f"ratio to {against}", title=title)
    for name, seconds in taken.items():
        ratios = [mine / theirs for mine, theirs in zip(seconds, taken[against], strict=True)]
        table.add_row(
            name,
            f"{statistics.median(seconds):.3f}",
            f"{min(seconds):.3f}",
            f"{max(seconds):.3f}",
            f"{statistics.median(ratios):.2f}",
        )
    console.print(table)


def held_by(processes: Iterable[psutil.Process]) -> float:
    """MiB that processes hold together.

    Counted as proportional set size, where each page that n processes share counts 1/n in each:
    neither the shared buffers of PostgreSQL nor pages shared since a fork are counted twice.
    """
    held = 0
    for process in processes:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            memory = process.memory_full_info()
            held += getattr(memory, "pss", memory.uss)
    return held / 2**20


class PeakMemory:
    """The most memory that a process and all its descendants hold together, while a block runs.

    Attributes:
        mebibytes: the peak; 0 before the first sample
    """

    def __init__(self, pid: int) -> None:
        self._family = psutil.Process(pid)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.mebibytes = 0.0

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            family = (self._family, *self._family.children(recursive=True))
            self.mebibytes = max(self.mebibytes, held_by(family))
            if self._done.wait(0.2):
                return
