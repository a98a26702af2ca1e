"""What the fork server of the workers does at its own end. Nobody else imports this.

`multiprocessing` makes a folder for the fork server's socket, and the process that made it removes
it when it ends; one that is killed does not. The fork server ends then too, and can do it.
"""

import atexit
import os
from contextlib import suppress
from multiprocessing import forkserver


def _remove_folder(fork_server: int) -> None:
    # A worker is forked from here, with all that is to be done at the end.
    address = forkserver._forkserver._forkserver_address  # type: ignore[attr-defined]
    if os.getpid() == fork_server and address:
        with suppress(OSError):  # the process that made them was there first
            os.unlink(address)
            os.rmdir(os.path.dirname(address))


atexit.register(_remove_folder, os.getpid())
