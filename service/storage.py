"""Folders and object stores that fail to take or return what the service keeps: told in words.

The operator reads in the log which one it is and what the system said. Whoever asks over HTTP is
told what kind of storage it is, and no path.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

#: Not for every account of the machine; a folder that is there keeps the mode that it was given.
_MODE = 0o750
_FULL = "the disk of {} is full"
_NOT_THERE = "{} is not there"
_NOT_ALLOWED = "the service may not use {}"
_OF_ERRNO = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EROFS: "{} is read-only",
    errno.EACCES: _NOT_ALLOWED,
    errno.EPERM: _NOT_ALLOWED,
    errno.ENOENT: _NOT_THERE,
    errno.ENOTDIR: _NOT_THERE,
}


class StorageFailed(Exception):  # noqa: N818 - read by a person as a sentence
    """A folder or an object store does not take, or does not give, what it should.

    Attributes:
        told: what is wrong, for whoever asks
        full: whether there is no room left
    """

    def __init__(self, told: str, location: object, cause: object, *, full: bool = False) -> None:
        super().__init__(f"{told} ({location}: {cause})")
        self.told, self.full = told, full


@dataclass(frozen=True)
class Folder:
    """A folder that the service writes to.

    Attributes:
        called: what people call it
        path: where it is
    """

    called: str
    path: Path

    def make(self) -> None:
        """Create it, unless it is there.

        Only when the service starts: a folder that is gone later may lie on a disk that is away,
        and one made in its place would hide what is kept there and fill another disk.

        Raises:
            StorageFailed: it cannot be created
        """
        with self.failing_in_words():
            self.path.mkdir(mode=_MODE, parents=True, exist_ok=True)

    @contextmanager
    def failing_in_words(self) -> Iterator[None]:
        """Around what touches its files and nothing else.

        Raises:
            StorageFailed: in place of any OSError
        """
        try:
            yield
        except OSError as error:
            told = _OF_ERRNO.get(error.errno or 0, "{} does not work").format(self.called)
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise StorageFailed(told, self.path, error.strerror or error, full=full) from error
