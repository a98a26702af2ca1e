"""Events arrive signed, at least once, again after failures, and none where it must not go.

No test waits for a time: the deliverer has a clock that is moved.
"""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from service.database.migrations import migrate
from service.database.pool import transaction
from service.webhooks.answer import EXCERPT_BYTES, Answer
from service.webhooks.deliverer import JITTER, PATIENCE, RETRIES, Deliverer
from service.webhooks.deliveries import LEASE, MOST_KEPT, MOST_WAITING, Delivery, replay
from service.webhooks.sender import Sender
from service.webhooks.table import rotate_secret
from tests.harness.receivers import Receiver, Reply, certificate, receiving
from tests.harness.webhooks import HERE, Outbox, outbox

Scene = Callable[[Outbox], Awaitable[None]]


@pytest.fixture(scope="module")
def url(module_database_url: str) -> str:
    async def prepare() -> None:
        import asyncpg

        connection = await asyncpg.connect(module_database_url)
        await migrate(connection)
        await connection.close()

    asyncio.run(prepare())
    return module_database_url


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def play(url: str, scene: Scene, **sender: Any) -> None:
    """Run a scene on an outbox of its own."""

    async def run() -> None:
        async with outbox(url, **sender) as scenery:
            await scene(scenery)

    asyncio.run(run())


def test_an_event_is_signed_so_that_the_reference_verifies_it(url: str, receiver: Receiver) -> None:
    receiver.reply = Reply(200, body=b"thanks\0" + b"!" * 5000)

    async def scene(outbox: Outbox) -> None:
        webhook, secret = await outbox.endpoint(receiver.url)
        event = await outbox.event(webhook)
        assert await outbox.deliverer.deliver_due() == 1
        (got,) = receiver.received
        told = Webhook(secret).verify(got.body, got.headers)
        assert told["type"] == "webhook.test"
        assert told["data"] == {"sequence": event.sequence, "webhook_id": str(webhook)}
        assert datetime.fromisoformat(told["timestamp"]) == event.created_at
        assert got.headers["webhook-id"] == str(event.id)
        assert got.headers["content-type"] == "application/json"
        assert got.headers["user-agent"].startswith("storewatch/")
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(got.body + b" ", got.headers)
        noted = await outbox.delivery(webhook)
        assert (noted.state, noted.status, noted.attempts) == ("delivered", 200, 1)
        assert (noted.due, noted.error) == (None, None)
        assert noted.answer == "thanks\N{REPLACEMENT CHARACTER}" + "!" * (EXCERPT_BYTES - 7)
        assert await outbox.deliverer.deliver_due() == 0

    play(url, scene)


def test_for_a_while_after_a_rotation_both_secrets_sign(url: str, receiver: Receiver) -> None:
    async def scene(outbox: Outbox) -> None:
        webhook, old = await outbox.endpoint(receiver.url)
        secret = await rotate_secret(outbox.pool, webhook, timedelta(hours=1))
        assert (await outbox.known(webhook)).old_secret_ends is not None
        new = Webhook(secret)
        await outbox.event(webhook)
        await outbox.deliverer.deliver_due()
        (both,) = receiver.received
        assert len(both.headers["webhook-signature"].split(" ")) == 2
        Webhook(old).verify(both.body, both.headers)
        new.verify(both.body, both.headers)

        await rotate_secret(outbox.pool, webhook, timedelta())
        await outbox.event(webhook)
        await outbox.deliverer.deliver_due()
        alone = receiver.received[1]
        for known in (Webhook(old), new):
            with pytest.raises(WebhookVerificationError):
                known.verify(alone.body, alone.headers)

        await rotate_secret(outbox.pool, webhook, timedelta(hours=1))
        outbox.clock.advance(hours=2)
        await outbox.event(webhook)
        await outbox.deliverer.deliver_due()
        assert " " not in receiver.received[2].headers["webhook-signature"]

    play(url, scene)


def test_what_fails_is_tried_again_later_and_later_with_the_same_bytes(
    url: str, receiver: Receiver
) -> None:
    receiver.reply = Reply(500, body=b"out of order")

    async def scene(outbox: Outbox) -> None:
        webhook, _ = await outbox.endpoint(receiver.url)
        await outbox.event(webhook)
        for wait in RETRIES:
            assert await outbox.deliverer.deliver_due() == 1
            noted = await outbox.delivery(webhook)
            assert (noted.state, noted.status, noted.answer) == ("waiting", 500, "out of order")
            assert noted.error == "answered by 500"
            assert noted.due is not None
            waits = noted.due - outbox.clock()
            assert wait - timedelta(seconds=5) < waits < wait * (1 + JITTER)
            if wait > timedelta(seconds=10):
                outbox.clock.advance(seconds=(wait - timedelta(seconds=5)).total_seconds())
                assert await outbox.deliverer.deliver_due() == 0
            outbox.clock.advance(seconds=(noted.due - outbox.clock()).total_seconds())
        assert await outbox.deliverer.deliver_due() == 1
        noted = await outbox.delivery(webhook)
        assert (noted.state, noted.due, noted.attempts) == ("failed", None, len(RETRIES) + 1)
        assert len({(got.id, got.body) for got in receiver.received}) == 1
        assert len(receiver.received) == len(RETRIES) + 1

        # A person lets it be made again.
        receiver.reply = Reply(200)
        async with transaction(outbox.pool) as connection:
            again = await replay(connection, webhook, noted.id)
        assert again is not None
        assert (again.state, again.attempts) == ("waiting", 0)
        assert await outbox.deliverer.deliver_due() == 1
        assert receiver.received[-1].id == str(noted.id)
        assert receiver.received[-1].body == receiver.received[0].body
        assert (await outbox.delivery(webhook)).state == "delivered"
        assert (await outbox.known(webhook)).failing_since is None

    play(url, scene)


def test_an_endpoint_at_which_nothing_arrives_for_days_is_disabled_until_a_person_says_so(
    url: str, receiver: Receiver
) -> None:
    receiver.reply = Reply(503)

    async def scene(outbox: Outbox) -> None:
        webhook, _ = await outbox.endpoint(receiver.url)
        for _ in range(2 * PATIENCE.days + 1):
            await outbox.event(webhook)
            await outbox.deliverer.deliver_due()
            outbox.clock.advance(hours=13)
        known = await outbox.known(webhook)
        assert known.settings.paused
        assert known.disabled_at is not None
        assert "nothing arrived for 5 days" in (known.disabled_reason or "")
        assert "503" in (known.disabled_reason or "")
        asked = len(receiver.received)
        await outbox.event(webhook)
        assert await outbox.deliverer.deliver_due() == 0

        receiver.reply = Reply(200)
        await outbox.change(webhook, paused=False)
        known = await outbox.known(webhook)
        assert (known.disabled_at, known.disabled_reason, known.failing_since) == (None,) * 3
        assert await outbox.deliverer.deliver_due() > 0
        assert len(receiver.received) > asked
        assert (await outbox.known(webhook)).waiting == 0

    play(url, scene)


def test_410_disables_an_endpoint_at_once(url: str, receiver: Receiver) -> None:
    receiver.reply = Reply(410)

    async def scene(outbox: Outbox) -> None:
        webhook, _ = await outbox.endpoint(receiver.url)
        await outbox.event(webhook)
        await outbox.deliverer.deliver_due()
        known = await outbox.known(webhook)
        assert known.settings.paused
        assert "410" in (known.disabled_reason or "")
        outbox.clock.advance(days=1)
        assert await outbox.deliverer.deliver_due() == 0

    play(url, scene)


@pytest.mark.parametrize(
    ("asked", "minutes"), [("600", 10), ("999999999", 24 * 60)], ids=["ten minutes", "for ever"]
)
def test_a_receiver_that_wants_to_be_left_alone_is(
    url: str, receiver: Receiver, asked: str, minutes: int
) -> None:
    receiver.reply = Reply(429, {"Retry-After": asked})

    async def scene(outbox: Outbox) -> None:
        webhook, _ = await outbox.endpoint(receiver.url)
        await outbox.event(webhook)
        await outbox.deliverer.deliver_due()
        receiver.reply = Reply(204)
        await outbox.event(webhook)
        outbox.clock.advance(minutes=minutes - 1)
        assert await outbox.deliverer.deliver_due() == 0
        outbox.clock.advance(minutes=1)
        assert await outbox.deliverer.deliver_due() == 2

    play(url, scene)


def test_a_receiver_may_say_by_a_date_when_it_wants_more(url: str, receiver: Receiver) -> None:
    async def scene(outbox: Outbox) -> None:
        date = format_datetime(outbox.clock() + timedelta(minutes=10), usegmt=True)
        receiver.reply = Reply(503, {"Retry-After": date})
        webhook, _ = await outbox.endpoint(receiver.url)
        await outbox.event(webhook)
        await outbox.deliverer.deliver_due()
        outbox.clock.advance(minutes=9)
        assert await outbox.deliverer.deliver_due() == 0
        outbox.clock.advance(minutes=1, seconds=10)
        assert await outbox.deliverer.deliver_due() == 1

    play(url, scene)


@pytest.mark.parametrize(
    ("summary", "missed"),
    [
        (None, False),
        ("null", False),
        ("[1]", False),
        ('{"targets": null}', False),
        ('{"targets": [null, [3, 0, 1]]}', False),
        ('{"targets": [null, [3, 1, 0]]}', True),
    ],
)
def test_whoever_ends_a_report_tells_it_whatever_its_summary_is(
    url: str, summary: str | None, missed: bool
) -> None:
    async def scene(outbox: Outbox) -> None:
        webhook, _ = await outbox.endpoint("https://example.com/")
        paused, _ = await outbox.endpoint("https://example.com/paused", paused=True)
        await outbox.pool.execute(
            """
            insert into report (id, interpolation, max_gap, include_unknown)
            select gen_random_uuid(), 'nearest', '1 day', false from generate_series(1, 3)
            """
        )
        for state in ("completed", "failed", "cancelled", "expired"):
            await outbox.pool.execute(
                """
                update report set state = $1, summary = $2
                where id = (select id from report order by state = 'queued' desc limit 1)
                """,
                state,
                summary,
            )
        wanted = {"report.completed", "report.failed", *(["target.missed"] if missed else [])}
        assert {one.type for one in await outbox.deliveries(webhook)} == wanted
        assert len(await outbox.deliveries(webhook)) == len(wanted)
        assert await outbox.deliveries(paused) == []
        await outbox.pool.execute("delete from report")

    play(url, scene)


def test_a_redirect_is_not_followed(url: str, receiver: Receiver) -> None:
    async def scene(outbox: Outbox) -> None:
        with receiving() as elsewhere:
            receiver.reply = Reply(307, {"Location": elsewhere.url})
            webhook, _ = await outbox.endpoint(receiver.url)
            await outbox.event(webhook)
            await outbox.deliverer.deliver_due()
            noted = await outbox.delivery(webhook)
            assert (noted.state, noted.status) == ("waiting", 307)
            assert "redirects are not followed" in (noted.error or "")
            assert elsewhere.received == []

    play(url, scene)


def test_a_receiver_that_hangs_is_given_up_and_others_do_not_wait_for_it(
    url: str, receiver: Receiver
) -> None:
    release = threading.Event()
    receiver.reply = Reply(after=release)

    async def scene(outbox: Outbox) -> None:
        slow, _ = await outbox.endpoint(receiver.url)
        for _ in range(20):
            await outbox.event(slow)
        with receiving() as quick:
            other, _ = await outbox.endpoint(quick.url)
            await outbox.event(other)
            delivering = asyncio.create_task(outbox.deliverer.deliver_due())
            await asyncio.to_thread(quick.wait_for, 1)
            # Some at once at first, then, as it fails, one at a time.
            assert len(receiver.received) <= 4
            delivering.cancel()
        first = (await outbox.deliveries(slow))[0]
        assert first.attempts == 1

    play(url, scene)
    release.set()


def test_no_answer_in_time_is_a_failure_also_where_the_body_never_ends(
    url: str, receiver: Receiver
) -> None:
    release = threading.Event()

    async def scene(outbox: Outbox) -> None:
        webhook, _ = await outbox.endpoint(receiver.url)
        receiver.reply = Reply(after=release)
        await outbox.event(webhook)
        await outbox.deliverer.deliver_due()
        noted = await outbox.delivery(webhook)
        assert (noted.status, noted.error) == (None, "no answer within 0.3 seconds")

        # It has arrived, whatever else is sent.
        receiver.reply = Reply(200, body=b"x" * 100_000, endless=True)
        outbox.clock.advance(minutes=1)
        await outbox.deliverer.deliver_due()
        noted = await outbox.delivery(webhook)
        assert (noted.state, noted.answer) == ("delivered", "x" * EXCERPT_BYTES)

    play(url, scene, timeout=0.3)
    release.set()


def test_nothing_is_sent_to_private_addresses_also_if_a_name_resolves_to_one(
    url: str, receiver: Receiver
) -> None:
    def resolve(host: str, port: int) -> list[tuple[Any, ...]]:
        assert host == "rebound.example.com"
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::ffff:127.0.0.1", port, 0, 0)),
        ]

    async def scene(outbox: Outbox) -> None:
        for there in ("127.0.0.1", "[::ffff:127.0.0.1]", "rebound.example.com"):
            webhook, _ = await outbox.endpoint(receiver.url.replace("127.0.0.1", there))
            await outbox.event(webhook)
            await outbox.deliverer.deliver_due()
            noted = await outbox.delivery(webhook)
            assert noted.status is None
            assert "127.0.0.1 is not a public address" in (noted.error or "") or (
                "::ffff:7f00:1 is not a public address" in (noted.error or "")
            ), there
        assert receiver.received == []

    play(url, scene, allowed=(), resolve=resolve)


def test_a_name_is_resolved_and_what_has_no_address_is_told(url: str, receiver: Receiver) -> None:
    def resolve(host: str, port: int) -> list[tuple[Any, ...]]:
        if host != "known.example.com":
            raise socket.gaierror("no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    async def scene(outbox: Outbox) -> None:
        known, _ = await outbox.endpoint(receiver.url.replace("127.0.0.1", "known.example.com"))
        lost, _ = await outbox.endpoint("https://lost.example.com/hook")
        for webhook in (known, lost):
            await outbox.event(webhook)
        await outbox.deliverer.deliver_due()
        assert (await outbox.delivery(known)).state == "delivered"
        (got,) = receiver.received
        assert got.headers["host"].startswith("known.example.com")
        told = (await outbox.delivery(lost)).error
        assert told == "no address was found for lost.example.com"

    play(url, scene, resolve=resolve)


def test_a_certificate_has_to_be_that_of_the_name(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(_: str, port: int) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    async def scene(outbox: Outbox) -> None:
        for name in ("good.example.com", "bad.example.com"):
            there = receiver.url.replace("http://127.0.0.1", f"https://{name}")
            webhook, _ = await outbox.endpoint(there)
            await outbox.event(webhook)
            await outbox.deliverer.deliver_due()
            told[name] = (await outbox.delivery(webhook)).error

    told: dict[str, str | None] = {}
    tls, trusted = certificate(tmp_path, "good.example.com")
    with receiving(tls) as receiver:
        play(url, scene, resolve=resolve)
        for name, error in told.items():
            assert (error or "").startswith(f"the certificate of {name} is not valid: ")
            assert "self-signed" in (error or "")
        assert receiver.received == []

        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        play(url, scene, resolve=resolve)
        assert told["good.example.com"] is None
        assert "Hostname mismatch" in (told["bad.example.com"] or "")
        assert len(receiver.received) == 1


class BrokenSender(Sender):
    async def send(self, url: str, body: bytes, headers: dict[str, str]) -> Answer:
        raise ZeroDivisionError


def test_what_the_service_itself_cannot_do_counts_as_an_attempt(url: str) -> None:
    async def scene(outbox: Outbox) -> None:
        webhook, _ = await outbox.endpoint("https://example.com/")
        await outbox.event(webhook)
        deliverer = Deliverer(outbox.pool, BrokenSender(), "", outbox.clock)
        for _ in range(len(RETRIES) + 1):
            assert await deliverer.deliver_due() == 1
            outbox.clock.advance(days=2)
            await outbox.change(webhook, paused=False)
        noted = await outbox.delivery(webhook)
        told = "the service could not send it (ZeroDivisionError); its log says more"
        assert (noted.state, noted.error) == ("failed", told)

    play(url, scene)


def test_two_deliverers_share_what_there_is(url: str, receiver: Receiver) -> None:
    async def scene(outbox: Outbox) -> None:
        webhook, _ = await outbox.endpoint(receiver.url)
        events = [await outbox.event(webhook) for _ in range(60)]
        async with Sender(HERE) as sender:
            other = Deliverer(outbox.pool, sender, "", outbox.clock)
            made = await asyncio.gather(outbox.deliverer.deliver_due(), other.deliver_due())
        assert sum(made) == len(events)
        assert sorted(got.id for got in receiver.received) == sorted(str(one.id) for one in events)

    play(url, scene)


def test_what_an_instance_was_doing_when_it_died_is_done_again_by_another(
    url: str, receiver: Receiver
) -> None:
    release = threading.Event()
    receiver.reply = Reply(after=release)

    async def scene(outbox: Outbox) -> None:
        webhook, _ = await outbox.endpoint(receiver.url)
        await outbox.event(webhook)
        async with Sender(HERE) as sender:
            dying = Deliverer(outbox.pool, sender, "", outbox.clock)
            task = asyncio.create_task(dying.deliver_due())
            await asyncio.to_thread(receiver.wait_for, 1)
            task.cancel()
            for delivery in dying._under_way:
                delivery.cancel()
        receiver.reply = Reply(200)
        assert await outbox.deliverer.deliver_due() == 0
        outbox.clock.advance(seconds=LEASE.total_seconds())
        assert await outbox.deliverer.deliver_due() == 1
        first, second = receiver.received
        assert (first.id, first.body) == (second.id, second.body)
        assert (await outbox.delivery(webhook)).state == "delivered"

    play(url, scene)
    release.set()


async def many(outbox: Outbox, webhook: Any, count: int, **more: Any) -> None:
    """Write many events at once."""
    columns = {"state": "waiting", "created_at": outbox.clock(), **more}
    await outbox.pool.execute(
        """
        insert into webhook_delivery (webhook, type, payload, state, created_at)
        select $1, 'webhook.test', '{}', $3, $4 from generate_series(1, $2::integer)
        """,
        webhook,
        count,
        columns["state"],
        columns["created_at"],
    )


def states(found: Any) -> list[str]:
    return [one.state for one in found]


def test_of_too_many_that_wait_the_oldest_are_dropped_and_counted(
    url: str, receiver: Receiver
) -> None:
    async def scene(outbox: Outbox) -> None:
        webhook, _ = await outbox.endpoint(receiver.url)
        oldest: Delivery = await outbox.event(webhook)
        await many(outbox, webhook, MOST_WAITING + 4)
        await outbox.deliverer.tidy()
        known = await outbox.known(webhook)
        assert (known.waiting, known.dropped) == (MOST_WAITING, 5)
        assert oldest.id not in {one.id for one in await outbox.deliveries(webhook)}
        await outbox.deliverer.tidy()
        assert (await outbox.known(webhook)).dropped == 5

    play(url, scene)


def test_deliveries_are_forgotten_that_are_old_or_too_many(url: str, receiver: Receiver) -> None:
    async def scene(outbox: Outbox) -> None:
        webhook, _ = await outbox.endpoint(receiver.url)
        month = outbox.clock() - timedelta(days=31)
        await many(outbox, webhook, 1500, state="delivered", created_at=month)
        await many(outbox, webhook, 1, state="waiting", created_at=month)
        await many(outbox, webhook, 2, state="failed", created_at=month + timedelta(days=2))
        await outbox.deliverer.tidy()
        assert states(await outbox.deliveries(webhook)) == ["failed", "failed"]

        await many(outbox, webhook, MOST_KEPT, state="delivered")
        await outbox.event(webhook)
        await outbox.deliverer.tidy()
        left = states(await outbox.deliveries(webhook))
        assert left == ["delivered"] * MOST_KEPT + ["waiting"]

    play(url, scene)
