"""What glibc does with memory that was freed; elsewhere nothing is changed."""

import ctypes

#: Numbers of glibc's options.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
#: Unused memory that a worker may keep.
_KEPT_BYTES = 64 << 20
_ARENAS = 2


def keep_freed_memory() -> None:
    """Keep what was freed for what is needed next.

    Each batch of a worker needs the memory that the last one freed. By default glibc returns it to
    the kernel in between, and gets it back page by page, zeroed: a third of the time of parsing
    polls.
    """
    _set(_M_TRIM_THRESHOLD, _KEPT_BYTES)
    _set(_M_MMAP_THRESHOLD, _KEPT_BYTES)


def share_freed_memory() -> None:
    """Let the threads of a process share what they free.

    By default up to eight threads a core keep their own: loading 23 million polls that are known
    already then takes 180 MiB more, and is no faster.
    """
    _set(_M_ARENA_MAX, _ARENAS)


def _set(option: int, value: int) -> None:
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(option, value)
