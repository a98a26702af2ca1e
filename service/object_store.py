"""What an object store says when it does not do what it should, in words."""

from collections.abc import Iterator
from contextlib import contextmanager

from service.storage import StorageFailed


@contextmanager
def object_store_failing_in_words(url: str) -> Iterator[None]:
    """Around what asks an object store and nothing else.

    Args:
        url: where in it, for the operator

    Raises:
        StorageFailed: in place of whatever says that it does not work
    """
    # Here, so that it is loaded only where there is an object store.
    from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

    try:
        yield
    except TimeoutError as error:
        told = "the object store does not answer in time"
        raise StorageFailed(told, url, "no answer") from error
    except (OSError, ValueError, BaseError) as error:
        told = "the object store does not work"
        if isinstance(error, FileNotFoundError):
            told = "the object store has no such bucket or container"
        elif isinstance(error, (PermissionDeniedError, UnauthenticatedError)):
            told = "the object store does not let the service in"
        cause = str(error).partition("\n")[0]  # the other lines are a dump of its state
        raise StorageFailed(told, url, cause) from error
