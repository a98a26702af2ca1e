"""A week of many stores by a clock that is moved: every transition is told once, none is invented.

Two instances take turns to look and deliver, and one of them dies in the middle of both. What had
to be told is worked out from the timelines of the slow reference alone.
"""

import asyncio
import random
import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fractions import Fraction

import pytest
from standardwebhooks import Webhook

from compute.instants import instant_of
from compute.timeline import STATES
from service.outages.kept import remember
from service.states.look import Look
from service.webhooks.deliverer import Deliverer
from service.webhooks.sender import Sender
from service.webhooks.store_events import StoreEvents
from tests.harness.receivers import Received, Receiver, Reply, receiving
from tests.harness.reference import DAY, HOUR, MINUTE, Store, pieces
from tests.harness.states import MAX_GAP, World, world, write_store
from tests.harness.webhooks import HERE, Clock, Outbox

#: As many stores live each of so many lives: the reference is slow.
LIVES, EACH = 100, 20
#: A Friday; two days later the clocks of Chicago go back.
BEGIN = int(datetime(2023, 11, 3, 12, tzinfo=UTC).timestamp()) * 1000
LOOKS = 7 * 24
#: Counted downtime after which it is told.
DOWN_FOR = 90 * MINUTE
_HOURS = (
    (),
    tuple((day, 9 * HOUR, 17 * HOUR) for day in range(7)),
    tuple((day, 18 * HOUR, 26 * HOUR) for day in range(7)),
)
_ZONES = (None, "Europe/Berlin", "Asia/Kolkata")


@dataclass(frozen=True)
class Life:
    """What becomes of a store in the week: its pieces in order, each until the next begins."""

    store: Store
    begins: Sequence[Fraction]
    pieces: Sequence[tuple[Fraction, Fraction, str]]

    def state_at(self, instant: int) -> str:
        return self.pieces[bisect_right(self.begins, instant) - 1][2]

    def down_for(self, instant: int) -> Fraction:
        """Counted downtime of the outage that is open."""
        length = Fraction(0)
        for start, end, state in reversed(self.pieces[: bisect_right(self.begins, instant)]):
            if state in ("up", "unknown"):
                break
            if state == "down":
                length += min(end, Fraction(instant)) - start
        return length


def lives(seed: int) -> Iterator[Life]:
    """Stores that are polled every hour, and are down or silent now and then."""
    dice = random.Random(seed)
    for number in range(LIVES):
        polled = BEGIN - 2 * DAY + dice.randrange(HOUR)
        instants = range(polled, BEGIN + LOOKS * HOUR, HOUR)
        active = dict.fromkeys(instants, True)
        for _ in range(dice.randrange(4)):
            first = dice.choice(instants[50:])
            down = dice.random() < 0.7
            for instant in range(first, first + dice.randrange(1, 40) * HOUR, HOUR):
                if instant in active:
                    if down:
                        active[instant] = False
                    else:
                        del active[instant]
        special = ((datetime(2023, 11, 7, tzinfo=UTC).date(), ()),) if number % 7 == 0 else ()
        pause = (BEGIN + 3 * DAY, BEGIN + 3 * DAY + 5 * HOUR)
        store = Store(
            f"life-{number:03}",
            tuple(active.items()),
            dice.choice(_HOURS),
            dice.choice(_ZONES),
            special=special,
            exclusions=(pause,) if number % 5 == 0 else (),
        )
        window = BEGIN - DAY, BEGIN + (LOOKS + 1) * HOUR
        parts = list(pieces(store, window, window[1], "previous", MAX_GAP))
        yield Life(store, [start for start, _, _ in parts], parts)


def expected_changes(life: Life, looks: Sequence[int]) -> list[tuple[str, str, int]]:
    """State before, state, and the look that finds it, of each change."""
    states = [life.state_at(look) for look in looks]
    return [
        (before, state, look)
        for look, before, state in zip(looks[1:], states, states[1:], strict=False)
        if before != state
    ]


def expected_events(life: Life, looks: Sequence[int]) -> list[tuple[str, int]]:
    """What an endpoint is told of a store, and by which look."""
    told: list[tuple[str, int]] = []
    known = life.down_for(looks[0]) > 0
    down = False
    for look in looks[1:]:
        state, down_for = life.state_at(look), life.down_for(look)
        if state == "up":
            if down:
                told.append(("store.up", look))
            known = down = False
        elif not known and not down and down_for >= DOWN_FOR and down_for > 0:
            down = True
            told.append(("store.down", look))
    return told


def test_a_week_of_stores_is_told_once_although_an_instance_dies(database_url: str) -> None:
    all_lives = list(lives(seed=2026))
    looks = [BEGIN + number * HOUR for number in range(LOOKS + 1)]
    with receiving() as receiver:
        changes, secret = asyncio.run(_week(database_url, receiver, all_lives, looks))

    expected = [
        (name, *change)
        for life in all_lives
        for change in expected_changes(life, looks)
        for name in _names(life)
    ]
    assert len(expected) > LIVES * EACH
    assert Counter(changes) == Counter(expected)

    verifier = Webhook(secret)
    events: dict[str, Received] = {}
    for one in receiver.received:
        # The library's `verify` would compare with the true time.
        at = datetime.fromtimestamp(int(one.headers["webhook-timestamp"]), UTC)
        signed = verifier.sign(one.id, at, one.body.decode())
        assert one.headers["webhook-signature"] == signed
        # What the receiver failed came again, as it was.
        assert events.setdefault(one.id, one).body == one.body
    assert len(events) < len(receiver.received)
    told = [
        (event["data"]["store_id"], event["type"], datetime.fromisoformat(event["data"]["as_of"]))
        for event in sorted(
            (one.event for one in events.values()), key=lambda event: event["data"]["sequence"]
        )
    ]
    of_stores: dict[str, list[tuple[str, datetime]]] = {}
    for name, kind, as_of in told:
        of_stores.setdefault(name, []).append((kind, as_of))
    assert of_stores == {
        name: [(kind, instant_of(look)) for kind, look in expected_told]
        for life in all_lives
        if (expected_told := expected_events(life, looks))
        for name in _names(life)
    }


def _names(life: Life) -> list[str]:
    return [f"{life.store.store_id}-{twin:02}" for twin in range(EACH)]


async def _week(
    database_url: str, receiver: Receiver, all_lives: Sequence[Life], looks: Sequence[int]
) -> tuple[list[tuple[str, str, str, int]], str]:
    """The changes that were noted, as (store, before, state, look), and the receiver's secret."""
    async with (
        world(database_url, BEGIN, instances=2) as here,
        Sender(allowed=HERE) as one,
        Sender(allowed=HERE) as other,
    ):
        async with here.pool.acquire() as connection, connection.transaction():
            for life in all_lives:
                for name in _names(life):
                    await write_store(connection, replace(life.store, store_id=name))

        clock = Clock()  # events are as old as the database says
        deliverers = [Deliverer(here.pool, sender, "", clock) for sender in (one, other)]
        endpoints = Outbox(here.pool, clock, deliverers[1])
        _, secret = await endpoints.endpoint(
            receiver.url, events=["store.down", "store.up"], down_for=DOWN_FOR
        )
        for instance in here.instances:
            instance._on_look = (*instance._on_look, StoreEvents("").tell, remember)

        changes: list[tuple[str, str, str, int]] = []
        last, dead = 0, False
        for number, look in enumerate(looks):
            here.now = look
            clock.advance(hours=1)
            receiver.reply = Reply(500) if number % 10 == 3 else Reply()
            second_half = number >= LOOKS // 2
            turn = 1 if second_half else number % 2
            if number == LOOKS // 2:
                await _dies_in_a_look(here)
            assert await here.instances[turn].look_at_all()
            if second_half and not dead and await _waiting(here, "attempts = 0"):
                await _dies_while_it_delivers(deliverers[0], receiver)
                dead = True
            await deliverers[turn].deliver_due()
            rows = await here.pool.fetch(
                "select * from state_change where id > $1 order by id", last
            )
            last = rows[-1]["id"] if rows else last
            changes += [
                (row["store_id"], STATES[row["before"]], STATES[row["state"]], row["as_of"])
                for row in rows
            ]
        clock.advance(days=1)  # what waits is tried again
        await deliverers[1].deliver_due()
        assert dead
        assert not await _waiting(here)
        return changes, secret


async def _waiting(here: World, condition: str = "true") -> int:
    """How many events have not arrived."""
    count: int = await here.pool.fetchval(
        f"select count(*) from webhook_delivery where state <> 'delivered' and {condition}"  # noqa: S608
    )
    return count


async def _dies_in_a_look(here: World) -> None:
    """The first instance ends in the middle of a look: it has written nothing."""
    begun = asyncio.Event()

    async def hangs(_connection: object, _look: Look) -> None:
        begun.set()
        await asyncio.Event().wait()

    instance = here.instances[0]
    instance._on_look = (*instance._on_look, hangs)
    looking = asyncio.create_task(instance.look_at_all())
    await begun.wait()
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking


async def _dies_while_it_delivers(deliverer: Deliverer, receiver: Receiver) -> None:
    """It ends while the receiver has an event and has not answered."""
    before, answers = len(receiver.received), threading.Event()
    receiver.reply, reply = Reply(after=answers), receiver.reply
    delivering = asyncio.create_task(deliverer.deliver_due())
    while len(receiver.received) == before:  # noqa: ASYNC110 - it comes in another thread
        await asyncio.sleep(0.01)
    delivering.cancel()
    for under_way in list(deliverer._under_way):
        under_way.cancel()
    await asyncio.gather(delivering, return_exceptions=True)
    receiver.reply = reply
    answers.set()
