"""What the fork server of the workers does beside its work. Only the fork server imports this.

`multiprocessing` makes a folder for the socket of the fork server. The process that made it removes
it when it ends, but not if it is killed. The fork server ends then too, and can remove it.

A process that ends while it asks for a worker does not say any more what the worker is to do. The
worker of `multiprocessing` then shows a stack; ours just ends.
"""

import atexit
import os
from contextlib import suppress
from multiprocessing import forkserver, spawn


def _remove_folder(fork_server: int) -> None:
    # Workers are forked from here and inherit what is registered to run at the end.
    address = forkserver._forkserver._forkserver_address  # type: ignore[attr-defined]
    if os.getpid() == fork_server and address:
        with suppress(OSError):  # the process that made them has removed them
            os.unlink(address)
            os.rmdir(os.path.dirname(address))


def _begin(fd: int, parent_sentinel: int) -> int:
    try:
        return _begin_as_told(fd, parent_sentinel)
    except EOFError:
        os._exit(1)


_begin_as_told = spawn._main
spawn._main = _begin
atexit.register(_remove_folder, os.getpid())
