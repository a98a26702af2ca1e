"""What a worker process is besides what it runs. The fork server loads this: it imports little."""

import gc
import multiprocessing
import os
import threading

from service.memory import keep_freed_memory

#: How often a worker checks whether its service is still there, seconds.
_LOOK_SECONDS = 1.0


def begin_worker() -> None:
    """Prepare this process, which was just forked, for its work."""
    # Parsing makes many small objects and no cycles: with the default thresholds of the garbage
    # collector it takes twice as long.
    gc.set_threshold(200_000, 50, 50)
    keep_freed_memory()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A killed service cannot end its workers. They would not notice either, because each holds the
    # write end of the queue that it reads from, so none sees the end of that queue. And once the
    # fork server is gone, the service takes its workers for dead.
    fork_server = os.getppid()
    service = multiprocessing.parent_process()
    if service is not None:
        while service.is_alive() and os.getppid() == fork_server:
            service.join(_LOOK_SECONDS)
        os._exit(1)
