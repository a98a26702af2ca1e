"""A plugin of coverage.py: what a process ran is not lost when it is killed, as tests often do.

coverage.py writes what it measured when a process ends in order. Here it is also written each half
second meanwhile.
"""

import threading
import time
from typing import Any

import coverage

_SECONDS = 0.5


def _save() -> None:
    while True:
        time.sleep(_SECONDS)
        if measured := coverage.Coverage.current():
            measured.save()


def coverage_init(reg: Any, options: Any) -> None:
    """Begin, in each process that is measured."""
    threading.Thread(target=_save, daemon=True).start()
