"""The rules of what is told of a store, and when: docs/webhooks.md says them in words.

Arrays in, arrays out. An alarm is what an endpoint knows of a store that is down or silent: that it
was told so, or that it was so before the endpoint looked, and then neither it nor its end is told.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from compute.axis import Ints
from compute.timeline import STATES
from service.states.look import NEVER_SEEN, Look

_DOWN, _UP = STATES.index("down"), STATES.index("up")
_NONE = np.zeros(0, np.int64)

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Alarms:
    """What an endpoint knows.

    Attributes:
        down_told: int64[n], numbers of stores, ascending; so are the others
        down_known: they were down before
        silent_told: as with down
        silent_known: as with down
    """

    down_told: Ints = field(default_factory=lambda: _NONE)
    down_known: Ints = field(default_factory=lambda: _NONE)
    silent_told: Ints = field(default_factory=lambda: _NONE)
    silent_known: Ints = field(default_factory=lambda: _NONE)


@dataclass(frozen=True)
class Rules:
    """What an endpoint wants.

    Attributes:
        down_for: milliseconds
        silent_for: milliseconds
        first_look: `as_of` of the first look with these rules
    """

    down_for: int
    silent_for: int
    first_look: int


@dataclass(frozen=True)
class Worse:
    """Stores of one look that are down, or silent; most of all stores are neither.

    Attributes:
        open: int64[n], places in the look of stores with an outage that is open, ascending
        polled_late: int64[n], the same of stores without a poll for some time
    """

    open: Ints
    polled_late: Ints


@dataclass(frozen=True)
class Found:
    """What there is to tell an endpoint, as places in the look, ascending.

    Attributes:
        down: int64[n], of stores whose down is to be told, if the endpoint is about them
        silent: int64[n], the same of silence
        up: int64[n], of stores that are up after an alarm that was told
        up_after_down: bool[n], whether that was down
        up_after_silence: bool[n], whether that was silence
        left: what the endpoint knows besides
    """

    down: Ints
    silent: Ints
    up: Ints
    up_after_down: Flags
    up_after_silence: Flags
    left: Alarms


def worse(look: Look) -> Worse:
    """The stores of a look that an endpoint may be told of."""
    return Worse(
        np.flatnonzero((look.down_for > 0) | (look.state == _DOWN)),
        np.flatnonzero(look.silent_for > 0),
    )


def asked_about(looked: Worse, events: Collection[str]) -> Worse:
    """What of a look matters to an endpoint that asks for some events.

    Who asks for `store.up` hears of it after what else it asks for; if for nothing, after downs.
    """
    silence = "store.silent" in events
    down = "store.down" in events or not silence
    return Worse(looked.open if down else _NONE, looked.polled_late if silence else _NONE)


def judge(look: Look, looked: Worse, rules: Rules, known: Alarms) -> Found:
    """What a look finds for an endpoint."""
    down, down_known = _new_down(look, looked.open, rules, known)
    silent, silent_known = _new_silent(look, looked.polled_late, rules, known)

    # An outage that ended in silence, or that a closing store took along, is over when it is up.
    down_over = _places(look, known.down_told)
    down_over = down_over[look.state[down_over] == _UP]
    known_over = _places(look, known.down_known)
    known_over = known_over[look.state[known_over] == _UP]
    silent_over = _polled_again(look, known.silent_told, rules)
    silent_known_over = _polled_again(look, known.silent_known, rules)

    after_silence = silent_over[look.state[silent_over] == _UP]
    up = _both(down_over, after_silence)
    return Found(
        down=down,
        silent=silent,
        up=up,
        up_after_down=_holds(down_over, up),
        up_after_silence=_holds(after_silence, up),
        left=Alarms(
            down_told=_without(known.down_told, look.store[down_over]),
            down_known=_with(_without(known.down_known, look.store[known_over]), look, down_known),
            silent_told=_without(known.silent_told, look.store[silent_over]),
            silent_known=_with(
                _without(known.silent_known, look.store[silent_known_over]), look, silent_known
            ),
        ),
    )


def noted(left: Alarms, look: Look, found: Found, told_down: Ints, told_silent: Ints) -> Alarms:
    """What an endpoint knows after a look.

    Args:
        left: what it knows besides
        look: the look
        found: what `judge` found in it
        told_down: places in the look of those of `found.down` that the endpoint is about; the
            others are noted as known, so that nobody has to ask again
        told_silent: the same of `found.silent`
    """
    return Alarms(
        down_told=_with(left.down_told, look, told_down),
        down_known=_with(left.down_known, look, _without(found.down, told_down)),
        silent_told=_with(left.silent_told, look, told_silent),
        silent_known=_with(left.silent_known, look, _without(found.silent, told_silent)),
    )


def _new_down(look: Look, places: Ints, rules: Rules, known: Alarms) -> tuple[Ints, Ints]:
    """Outages of which the endpoint knows nothing: to be told, and to be noted as known."""
    stores = look.store[places]
    places = places[~_holds(known.down_told, stores) & ~_holds(known.down_known, stores)]
    reached = look.down_for[places] >= rules.down_for
    # Looks may be at some of the stores: what was so long before one was not noted then.
    before = look.was_down_for[places] >= max(rules.down_for, 1)
    old = _first(look, places, rules) | (reached & before)
    return places[reached & ~old], places[old]


def _new_silent(look: Look, places: Ints, rules: Rules, known: Alarms) -> tuple[Ints, Ints]:
    """The same of silences."""
    places = places[look.silent_for[places] >= rules.silent_for]
    stores = look.store[places]
    places = places[~_holds(known.silent_told, stores) & ~_holds(known.silent_known, stores)]
    # More counted time has passed since than time since the first look: it was silent before.
    since = look.silent_for[places] - rules.silent_for
    old = _first(look, places, rules) | (since > look.as_of - rules.first_look)
    return places[~old], places[old]


def _first(look: Look, places: Ints, rules: Rules) -> Flags:
    """Whether nobody looked at a store before, or not for this endpoint."""
    first: Flags = look.before[places] == NEVER_SEEN
    return first | (look.as_of == rules.first_look)


def _polled_again(look: Look, stores: Ints, rules: Rules) -> Ints:
    """Places of silent stores that are silent no more, and up or down.

    Polls while a store is closed say nothing: its silence is over when it is seen open.
    """
    places = _places(look, stores)
    state = look.state[places]
    polled = look.silent_for[places] < rules.silent_for
    again: Ints = places[polled & ((state == _UP) | (state == _DOWN))]
    return again


def _places(look: Look, stores: Ints) -> Ints:
    """Where stores are in a look; those that are not in it are left out."""
    places = np.searchsorted(look.store, stores)
    inside = places < len(look.store)
    places, stores = places[inside], stores[inside]
    found: Ints = places[look.store[places] == stores]
    return found


def _holds(stores: Ints, some: Ints) -> Flags:
    """Whether ascending stores hold each of some."""
    if not len(stores):
        return np.zeros(len(some), bool)
    places = np.minimum(np.searchsorted(stores, some), len(stores) - 1)
    held: Flags = stores[places] == some
    return held


def _without(stores: Ints, some: Ints) -> Ints:
    left: Ints = stores[~_holds(some, stores)]
    return left


def _with(stores: Ints, look: Look, places: Ints) -> Ints:
    return _both(stores, look.store[places]) if len(places) else stores


def _both(some: Ints, others: Ints) -> Ints:
    """All of two ascending arrays, each once; np.union1d would hash them, which takes longer."""
    together = np.sort(np.concatenate([some, others]), kind="stable")
    each: Ints = together[np.append(True, together[1:] != together[:-1])[: len(together)]]
    return each
