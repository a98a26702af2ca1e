"""When an endpoint is told of a store: once, after the threshold, and not of what was so before."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from compute.outages import NO_INSTANT
from compute.timeline import STATES
from service.states.look import LONGEST_THRESHOLD, NEVER_SEEN, Look
from service.webhooks.alarms import Alarms, Rules, judge, noted, worse

MINUTE, HOUR = 60_000, 3_600_000


@dataclass(frozen=True)
class Seen:
    """A store at a look."""

    state: str
    down_for: int = 0
    silent_for: int = 0


@dataclass
class Endpoint:
    """An endpoint that looks are shown to, one after the other.

    Attributes:
        down_for: its threshold, milliseconds
        silent_for: its threshold, milliseconds
        told: what it was told by each look, as (what, stores)
    """

    down_for: int = 0
    silent_for: int = 3 * HOUR
    told: list[list[tuple[str, list[int]]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._alarms, self._first = Alarms(), -1
        self._last: dict[int, Seen] = {}

    def looks(self, as_of: int, stores: dict[int, Seen], about: Sequence[int] = ()) -> None:
        """Show it a look; `about`: stores that have its tags, none: all."""
        numbers = sorted(stores)
        last = [self._last.get(number) for number in numbers]
        look = Look(
            as_of=as_of,
            store=np.array(numbers, np.int64),
            before=np.array(
                [NEVER_SEEN if one is None else STATES.index(one.state) for one in last]
            ),
            state=np.array([STATES.index(stores[number].state) for number in numbers]),
            since=np.full(len(numbers), NO_INSTANT),
            was_down_for=np.array([0 if one is None else one.down_for for one in last]),
            down_for=np.array([stores[number].down_for for number in numbers]),
            silent_for=np.array([stores[number].silent_for for number in numbers]),
        )
        self._last |= stores
        if self._first < 0:
            self._first = as_of
        rules = Rules(self.down_for, self.silent_for, self._first)
        found = judge(look, worse(look), rules, self._alarms)
        down, silent = (
            places[np.isin(look.store[places], about)] if about else places
            for places in (found.down, found.silent)
        )
        self._alarms = noted(found.left, look, found, down, silent)
        told = [
            (what, look.store[places].tolist())
            for what, places in (("down", down), ("silent", silent), ("up", found.up))
            if len(places)
        ]
        self.told.append(told)


UP, CLOSED, UNKNOWN = Seen("up"), Seen("closed"), Seen("unknown")


def down(minutes: float) -> Seen:
    return Seen("down", int(minutes * MINUTE))


def told_in_turn(endpoint: Endpoint, *turns: Seen, step: int = MINUTE) -> list[list[str]]:
    """What is told of one store, look by look; the first look is not part of it."""
    for at, seen in enumerate(turns):
        endpoint.looks(at * step, {7: seen})
    return [[what for what, _ in told] for told in endpoint.told[1:]]


def test_down_is_told_once_when_it_reaches_the_threshold_and_up_when_it_is_over() -> None:
    endpoint = Endpoint(down_for=15 * MINUTE)
    turns = (UP, down(5), down(14.9), down(15), down(40), UP, UP)
    assert told_in_turn(endpoint, *turns) == [[], [], ["down"], [], ["up"], []]


def test_without_a_threshold_it_is_told_at_once_also_before_any_time_has_passed() -> None:
    assert told_in_turn(Endpoint(), UP, down(0), down(1), UP) == [["down"], [], ["up"]]


def test_a_blip_below_the_threshold_tells_nobody() -> None:
    endpoint = Endpoint(down_for=15 * MINUTE)
    assert told_in_turn(endpoint, UP, down(14), UP, down(14), UP) == [[], [], [], []]


def test_a_late_poll_that_moves_the_edge_tells_nothing_anew() -> None:
    endpoint = Endpoint(down_for=15 * MINUTE)
    turns = (UP, down(20), down(5), down(15), down(30), UP)
    assert told_in_turn(endpoint, *turns) == [["down"], [], [], [], ["up"]]


def test_an_outage_goes_on_while_the_store_is_closed() -> None:
    endpoint = Endpoint(down_for=15 * MINUTE)
    shut = Seen("closed", 20 * MINUTE)
    assert told_in_turn(endpoint, UP, shut, shut, down(25), UP) == [["down"], [], [], ["up"]]


def test_an_outage_that_ends_in_silence_is_over_when_the_store_is_up() -> None:
    turns = (UP, down(1), UNKNOWN, down(1), UNKNOWN, CLOSED, UP, down(1))
    assert told_in_turn(Endpoint(), *turns) == [["down"], [], [], [], [], ["up"], ["down"]]


def test_what_is_down_at_the_first_look_is_known_and_neither_is_its_up_told() -> None:
    endpoint = Endpoint(down_for=15 * MINUTE)
    turns = (down(5), down(20), UP, down(20), UP)
    assert told_in_turn(endpoint, *turns) == [[], [], ["down"], ["up"]]


def test_a_store_that_is_looked_at_for_the_first_time_is_known_as_it_is() -> None:
    endpoint = Endpoint()
    endpoint.looks(0, {1: UP})
    endpoint.looks(MINUTE, {1: UP, 2: down(30), 3: Seen("up", silent_for=5 * HOUR)})
    endpoint.looks(2 * MINUTE, {1: UP, 2: UP, 3: UP})
    endpoint.looks(3 * MINUTE, {1: UP, 2: down(1), 3: UP})
    assert endpoint.told == [[], [], [], [("down", [2])]]


def test_looks_at_some_of_the_stores_tell_nothing_that_was_so_before() -> None:
    endpoint = Endpoint(down_for=15 * MINUTE)
    endpoint._last = {1: UP, 2: down(60), 3: Seen("up", silent_for=9 * HOUR)}  # by earlier looks
    endpoint.looks(0, {1: UP})
    endpoint.looks(MINUTE, {2: down(61), 3: Seen("up", silent_for=9 * HOUR + MINUTE)})
    endpoint.looks(2 * MINUTE, {1: down(15), 2: UP, 3: UP})
    assert endpoint.told == [[], [], [("down", [1])]]


def test_what_happened_while_nobody_looked_is_told_by_the_look_after() -> None:
    day = 24 * HOUR
    endpoint = Endpoint(down_for=15 * MINUTE)
    endpoint.looks(0, {1: UP, 2: UP, 3: UP})
    endpoint.looks(MINUTE, {1: UP, 2: down(30), 3: UP})
    endpoint.looks(day, {1: down(600), 2: UP, 3: Seen("up", silent_for=LONGEST_THRESHOLD)})
    assert endpoint.told[2] == [("down", [1]), ("silent", [3]), ("up", [2])]


def silent(hours: float, state: str = "up") -> Seen:
    return Seen(state, silent_for=int(hours * HOUR))


def test_a_silence_is_told_once_and_its_end_when_the_store_is_up() -> None:
    turns = (UP, silent(2.9), silent(3), silent(9, "unknown"), UP, silent(3))
    told = told_in_turn(Endpoint(), *turns, step=24 * HOUR)
    assert told == [[], ["silent"], [], ["up"], ["silent"]]


def test_a_silence_that_ends_with_the_store_down_is_not_followed_by_an_up_of_its_own() -> None:
    turns = (UP, silent(3), down(1), UP, silent(4))
    told = told_in_turn(Endpoint(), *turns, step=24 * HOUR)
    assert told == [["silent"], ["down"], ["up"], ["silent"]]


def test_polls_while_a_store_is_closed_do_not_end_its_silence() -> None:
    turns = (UP, silent(3), CLOSED, silent(3, "unknown"), CLOSED, UP)
    told = told_in_turn(Endpoint(), *turns, step=24 * HOUR)
    assert told == [["silent"], [], [], [], ["up"]]


def test_a_store_that_is_down_and_silent_is_up_again_once() -> None:
    both = Seen("down", 5 * HOUR, 5 * HOUR)
    told = told_in_turn(Endpoint(), UP, down(5), both, UP, step=24 * HOUR)
    assert told == [["down"], ["silent"], ["up"]]


def test_of_stores_without_its_tags_an_endpoint_is_never_told() -> None:
    endpoint = Endpoint()
    endpoint.looks(0, {1: UP, 2: UP})
    endpoint.looks(MINUTE, {1: down(1), 2: down(1)}, about=[2])
    endpoint.looks(2 * MINUTE, {1: down(2), 2: down(2)})
    endpoint.looks(3 * MINUTE, {1: UP, 2: UP})
    assert endpoint.told == [[], [("down", [2])], [], [("up", [2])]]
