"""What the fork server of the workers does when it ends. Only the fork server imports this.

`multiprocessing` makes a folder for the socket of the fork server. The process that made it removes
it when it ends, but not if it is killed. The fork server ends then too, and can remove it.
"""

import atexit
import os
from contextlib import suppress
from multiprocessing import forkserver


def _remove_folder(fork_server: int) -> None:
    # Workers are forked from here and inherit what is registered to run at the end.
    address = forkserver._forkserver._forkserver_address  # type: ignore[attr-defined]
    if os.getpid() == fork_server and address:
        with suppress(OSError):  # the process that made them has removed them
            os.unlink(address)
            os.rmdir(os.path.dirname(address))


atexit.register(_remove_folder, os.getpid())
