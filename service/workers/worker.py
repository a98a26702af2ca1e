"""What a worker process is besides what it runs. The fork server loads this: it imports little."""

import ctypes
import gc
import multiprocessing
import os
import threading

#: How often a worker checks whether its service is still there, seconds.
_LOOK_SECONDS = 1.0
#: Unused memory that a worker may keep, and the numbers of glibc's options for that.
_KEPT_BYTES = 64 << 20
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def begin_worker() -> None:
    """Prepare this process, which was just forked, for its work."""
    # Parsing makes many small objects and no cycles: with the default thresholds of the garbage
    # collector it takes twice as long.
    gc.set_threshold(200_000, 50, 50)
    _keep_freed_memory()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _keep_freed_memory() -> None:
    # Each batch needs the memory that the last one freed. By default glibc returns it to the kernel
    # in between, and gets it back page by page, zeroed: a third of the time of parsing polls.
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)


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
