"""What a look at stores found, for whoever has to tell of it in the transaction that notes it."""

from dataclasses import dataclass

from compute.axis import Ints
from compute.standing import LONGEST_TOLD

#: Up to this much counted time `down_for` and `silent_for` are exact, milliseconds: no threshold
#: is larger.
LONGEST_THRESHOLD = LONGEST_TOLD
#: In place of a state: nobody has looked at the store before.
NEVER_SEEN = -1


@dataclass(frozen=True)
class Look:
    """Stores as they are at one instant, beside how they were at the look before.

    Looks follow each other: no two are made at the same time, and none has an earlier `as_of` than
    the one before. A store that changed twice between two looks did not change.

    Attributes:
        as_of: milliseconds since 1970-01-01 UTC
        store: int64[n], numbers of the stores in the database, each once, ascending
        before: int64[n], index into `compute.timeline.STATES` at the last look at the store; or
            `NEVER_SEEN`
        state: int64[n], the same at this look
        since: int64[n], milliseconds since 1970-01-01 UTC, or `compute.outages.NO_INSTANT`: as
            `compute.states.States` has it
        was_down_for: int64[n], `down_for` at the last look at the store; 0: no outage was open
        down_for: int64[n], milliseconds of counted downtime of the outage that is open; 0: none
            is. Of more than `LONGEST_THRESHOLD` only that it is more.
        silent_for: int64[n], milliseconds of counted time since the store's newest poll, in the
            same way; 0 also where no poll is known
    """

    as_of: int
    store: Ints
    before: Ints
    state: Ints
    since: Ints
    was_down_for: Ints
    down_for: Ints
    silent_for: Ints
