"""Polls of a time of which none are kept any more are refused, and why is said."""

from compute.feed_faults import Fault, FeedRefused
from compute.instants import instant_of


def check_kept(kept_since: int | None, store_id: str, oldest: int) -> None:
    """Refuse polls, if the oldest of them is too old.

    Args:
        kept_since: from when on polls are kept, milliseconds since 1970-01-01 UTC; None: all are
        store_id: of the oldest poll
        oldest: itself, as `compute.polls` describes a `poll`

    Raises:
        FeedRefused: it is
    """
    if kept_since is None or oldest >> 1 >= kept_since:
        return
    problem = (
        f"the poll of store {store_id!r} at {instant_of(oldest >> 1):%Y-%m-%d %H:%M:%S} UTC is too "
        f"old: polls are kept from {instant_of(kept_since):%Y-%m-%d} UTC on"
    )
    raise FeedRefused([Fault(0, "", "", problem)], 1)
