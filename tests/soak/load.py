"""The clients: each does one kind of work, on stores of its own, so that what it was answered
determines what must be there at the end.
"""

import asyncio
import csv
import gzip
import io
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID

import httpx

from tests.soak.client import Answer, Answers, Asking, Strikes
from tests.soak.findings import Findings, Invariant
from tests.soak.instances import Instance
from tests.soak.ledger import Ledger, Row, Week

#: Where the clients' clock begins, days after the newest poll of the frozen stores. A second of
#: ours is a minute of theirs, so that windows move.
_BEGIN = datetime(2024, 3, 20, tzinfo=UTC)
_SPEED = 60
_MINUTE, _HOUR, _DAY = 60_000, 3_600_000, 86_400_000  # milliseconds
#: Long before all other polls: stretches that one client fills and empties.
_WRONG_CLOCK = datetime(2023, 1, 1, tzinfo=UTC)

_CSV, _JSON = {"Content-Type": "text/csv"}, {"Content-Type": "application/json"}
_ZONES = ("America/New_York", "America/Phoenix", "Europe/Berlin", "Asia/Kathmandu", None)
_REPORT_SECONDS = 120.0
_OK_OR_GONE = (200, 404)


@dataclass(frozen=True)
class Question:
    """What a report is asked; `as_of` lies before all that is written during the soak."""

    as_of: str
    interpolation: str = "nearest"
    max_gap: str = "24h"
    unknown: bool = False

    def body(self) -> dict[str, Any]:
        """It as `POST /reports` takes it."""
        return {
            "as_of": self.as_of,
            "interpolation": self.interpolation,
            "max_gap": self.max_gap,
            "include_unknown": self.unknown,
        }

    def arguments(self) -> list[str]:
        """It as `storewatch report` takes it."""
        given = ["--as-of", self.as_of, "--interpolation", self.interpolation]
        return [*given, "--max-gap", self.max_gap, *(["--unknown"] if self.unknown else [])]


QUESTIONS = (
    Question("2024-03-14T18:00:00Z"),
    Question("2024-03-14T18:00:00Z", "previous", "2h", True),
    Question("2024-03-10T15:00:00Z", unknown=True),
    Question("2024-03-12T06:30:00Z", "previous"),
)


@dataclass
class Asked:
    """A report that was answered with an id."""

    since: float = field(default_factory=time.monotonic)
    deleting: bool = False  # asked for, so it may be gone
    deleted: bool = False  # acknowledged, so it is gone
    cancelled: bool = False


@dataclass
class World:
    """What all clients share.

    Attributes:
        seed: of all choices
        instances: the service
        answers, strikes, findings: what was answered, struck and found
        ledger: what was sent
        frozen: ids of stores that nobody changes
        can_cancel: whether cancelling a report has a path of its own
        rate: pieces of work a second, of all clients together
        reports: those that were answered with an id
        keys: Idempotency-Keys of all that were asked for
        csvs: lines of frozen stores in downloaded reports, by question and whether of all stores
        over: set when clients shall end
    """

    seed: int
    instances: Sequence[Instance]
    answers: Answers
    strikes: Strikes
    findings: Findings
    ledger: Ledger
    frozen: frozenset[str]
    can_cancel: bool
    rate: float
    reports: dict[UUID, Asked] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    csvs: dict[Question, set[tuple[str, ...]]] = field(default_factory=dict)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    begun: float = field(default_factory=time.monotonic)

    def clock(self) -> int:
        """What time it is for the clients, milliseconds since 1970-01-01 UTC."""
        return int(1000 * (_BEGIN.timestamp() + _SPEED * (time.monotonic() - self.begun)))


class Client(Asking):
    """Does one thing again and again until the soak is over.

    Attributes:
        share: of all pieces of work, of each client of the kind
    """

    share: ClassVar[float]

    def __init__(self, world: World, number: int) -> None:
        self.name = f"{type(self).__name__.lower()}-{number}"
        rng = random.Random(f"{world.seed} {self.name}")
        super().__init__(rng, world.instances, world.answers, world.findings)
        self.world = world

    async def run(self) -> None:
        """Work, with pauses, until the soak is over."""
        async with self.http:
            while not self.world.over.is_set():
                await self.once()
                pause = self.rng.expovariate(self.share * self.world.rate)
                try:
                    await asyncio.wait_for(self.world.over.wait(), pause)
                except TimeoutError:
                    continue

    async def once(self) -> None:
        raise NotImplementedError

    def wrong(self, against: Invariant, what: str) -> None:
        """Note what must not be."""
        self.findings.add(against, f"{type(self).__name__}: {what}")


class _Polls(Client):
    """Sends polls: new ones, some again, some with another status than before."""

    _STORES = 20
    _KEPT = 5_000

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        self._sent: list[Row] = []

    def rows(self, fresh: int, again: int, back: int) -> list[Row]:
        """Polls of the last `back` milliseconds, and some that were sent, shuffled."""
        now = self.world.clock()
        new = [
            Row(
                f"{self.name}-{self.rng.randrange(self._STORES)}",
                now - self.rng.randrange(back),
                self.rng.random() < 0.8,
            )
            for _ in range(fresh)
        ]
        known = self.world.ledger.polls
        # Nothing is new twice: it might get another status while the first is not settled.
        new = list(
            {
                (row.store_id, row.instant): row
                for row in new
                if row.instant not in known.get(row.store_id, ())
            }.values()
        )
        old = self.rng.sample(self._sent, min(again, len(self._sent)))
        for row in old:
            # One whose last request may yet be carried out keeps its status.
            if row.sure and self.rng.random() < 0.2:
                row.active = not row.active
        self._sent = [*self._sent, *new][-self._KEPT :]
        rows = [*new, *old]
        self.rng.shuffle(rows)
        return rows

    async def send(self, kind: str, path: str, rows: Sequence[Row], **request: Any) -> None:
        self.world.ledger.sending(rows)
        patient = self.rng.random() < 0.8
        answer = await self.ask(kind, "POST", path, patient=patient, **request)
        if answer is None or not answer.at_once:
            for row in rows:
                row.sure = False
        if answer is not None:
            self.world.ledger.stored(rows)
            counted = answer.response.json()
            if counted["rows"] != len(rows):
                self.wrong(Invariant.ANSWERS, f"{kind} of {len(rows)} rows answered {counted}")


class SinglePolls(_Polls):
    """A poller: a row or a few of JSON, about now."""

    share = 0.12

    async def once(self) -> None:
        again = self.rng.random() < 0.2
        count = self.rng.choice((1, 1, 1, 5))
        rows = self.rows(0 if again else count, count if again else 0, 10 * _MINUTE)
        if rows:
            await self.send("polls, JSON", "/polls", rows, json=[_as_json(row) for row in rows])


class SmallFiles(_Polls):
    """Some rows of CSV."""

    share = 0.06

    async def once(self) -> None:
        rows = self.rows(self.rng.randrange(1, 30), self.rng.randrange(10), _HOUR)
        path = self.rng.choice(("/polls", "/polls/csv", "/feeds"))
        await self.send(
            "polls, small CSV", path, rows, content=_as_csv(rows, self.rng), headers=_CSV
        )


class LargeFiles(_Polls):
    """Thousands of rows, a part of them sent before, some twice in one file; plain or gzip."""

    share = 0.01
    _KEPT = 20_000

    async def once(self) -> None:
        rows = self.rows(self.rng.randrange(1_000, 3_000), self.rng.randrange(2_000), 2 * _DAY)
        rows += self.rng.sample(rows, len(rows) // 20)
        self.rng.shuffle(rows)
        body = _as_csv(rows, self.rng)
        kind = self.rng.choice(("plain", "gzip", "in pieces"))
        if kind == "gzip":
            body = gzip.compress(body, 1)
        content = {"streamed": body} if kind == "in pieces" else {"content": body}
        await self.send(f"polls, large CSV, {kind}", "/polls", rows, headers=_CSV, **content)


class WrongClock(_Polls):
    """Sends polls of a time that nobody else has polls of, and deletes them."""

    share = 0.01

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        self._turn = 0

    async def once(self) -> None:
        self._turn += 1
        first = int(1000 * _WRONG_CLOCK.timestamp()) + self._turn * _HOUR
        rows = [
            Row(f"{self.name}-{n % 3}", first + n * _MINUTE, n % 2 == 0)
            for n in range(self.rng.randrange(1, 60))
        ]
        await self.send("polls, JSON", "/polls", rows, json=[_as_json(row) for row in rows])
        if not rows[0].sure:
            return  # they might be stored after they were deleted
        self.world.ledger.removing(rows)
        between = {"from": _iso(first), "to": _iso(first + _HOUR)}
        if await self.ask("delete polls", "DELETE", "/polls", params=between):
            self.world.ledger.removed(rows)


class Settings(Client):
    """Sets hours and zones of single stores, and reads them back from any instance."""

    share = 0.08

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        self._made = 0
        self._stores = [self._new_store() for _ in range(5)]

    def _new_store(self) -> str:
        self._made += 1
        return f"{self.name}-{self._made}"

    async def once(self) -> None:
        place = self.rng.randrange(len(self._stores))
        store_id = self._stores[place]
        hours = self.rng.random() < 0.6
        answer = await (self._set_hours if hours else self._set_zone)(store_id)
        if answer is None or not answer.at_once:
            # What was not answered may yet be carried out: nothing else can be set here any more.
            self._stores[place] = self._new_store()
            return
        told = _settings_of(answer.response)
        read = await self.ask("a store", "GET", f"/stores/{store_id}")
        if read and _settings_of(read.response) != told:
            self.wrong(Invariant.SETTINGS, f"{store_id} reads otherwise than it was just set")

    async def _set_hours(self, store_id: str) -> Answer | None:
        week = _made_up_week(self.rng)
        self.world.ledger.setting("hours", store_id, week)
        body = [
            {"day": weekday, "start_time_local": _clock(start), "end_time_local": _clock(end)}
            for weekday, start, end in week
        ]
        path = f"/stores/{store_id}/business-hours"
        answer = await self.ask("set hours", "PUT", path, json=body)
        if answer:
            self.world.ledger.was_set("hours", store_id, week)
        return answer

    async def _set_zone(self, store_id: str) -> Answer | None:
        zone = self.rng.choice(_ZONES)
        self.world.ledger.setting("zone", store_id, zone)
        path = f"/stores/{store_id}/timezone"
        answer = await self.ask("set zone", "PUT", path, json={"timezone": zone})
        if answer:
            self.world.ledger.was_set("zone", store_id, zone)
            if answer.response.json()["timezone"] != zone:
                self.wrong(Invariant.SETTINGS, f"the zone {zone} was answered with another")
        return answer


class Reports(Client):
    """Asks for reports, follows them, fetches them, and deletes most of them."""

    share = 0.03

    async def once(self) -> None:
        question = self.rng.choice((*QUESTIONS, None))
        body: dict[str, Any] = question.body() if question else {}
        if question and self.rng.random() < 0.3:
            body["stores"] = self.rng.sample(sorted(self.world.frozen), 20)
        newest, named = self.world.ledger.newest, set(self.world.ledger.named)
        report_id = await self.trigger(body)
        if report_id is None:
            return
        follow = self.rng.choice((self._poll, self._listen))
        details = await follow(report_id)
        if details is None or details["status"] != "completed":
            return  # the table of reports tells at the end why
        if question is None and _milliseconds(details["as_of"]) < newest:
            what = f"{report_id} ends at {details['as_of']}, before a poll that was known before it"
            self.wrong(Invariant.NUMBERS, what)
        text = await self._download(report_id, details)
        if text is not None:
            self._look_at(report_id, question, set(body.get("stores", ())), named, text)
        if self.rng.random() < 0.7:
            await self._delete(report_id)

    async def trigger(self, body: dict[str, Any]) -> UUID | None:
        """Ask for a report; its id."""
        key = f"{self.name} {self.rng.getrandbits(64):x}"
        self.world.keys.add(key)
        answer = await self.ask(
            "ask for a report",
            "POST",
            "/reports",
            expected=(202,),
            json=body,
            headers={"Idempotency-Key": key},
        )
        if answer is None:
            return None
        report_id = UUID(answer.response.json()["id"])
        self.world.reports[report_id] = Asked()
        return report_id

    async def _poll(self, report_id: UUID) -> dict[str, Any] | None:
        deadline = time.monotonic() + _REPORT_SECONDS
        while time.monotonic() < deadline:
            answer = await self.ask("a report", "GET", f"/reports/{report_id}")
            if answer is None:
                return None
            details: dict[str, Any] = answer.response.json()
            if details["status"] not in ("queued", "running"):
                return details
            await asyncio.sleep(0.5)
        self.wrong(Invariant.REPORTS, f"a report is not done after {_REPORT_SECONDS:.0f} s")
        return None

    async def _listen(self, report_id: UUID) -> dict[str, Any] | None:
        """Follow the events; where their stream ends early, look, and begin again."""
        last = ""
        for _ in range(10):
            instance = self.an_instance()
            begun = time.monotonic()
            headers = {"Last-Event-ID": last} if last else {}
            url = f"{instance.base_url}/reports/{report_id}/events"
            try:
                async with self.http.stream("GET", url, headers=headers) as response:
                    self.answers.note("events", instance, begun, response)
                    async for line in response.aiter_lines():
                        if line.startswith("id:"):
                            last = line.removeprefix("id:").strip()
                        elif line.startswith("data:"):
                            details: dict[str, Any] = json.loads(line.removeprefix("data:"))
                            if details.get("status") not in ("queued", "running"):
                                return details
            except httpx.TransportError as error:
                # A stream may last: only its headers have to come in time.
                self.answers.note("events", instance, time.monotonic(), error)
            await asyncio.sleep(1)
        return await self._poll(report_id)

    async def _download(self, report_id: UUID, details: dict[str, Any]) -> bytes | None:
        path = f"/reports/{report_id}/csv"
        plain = {"Accept-Encoding": "identity"}
        answer = await self.ask("CSV", "GET", path, headers=plain)
        if answer is None:
            return None
        text, etag = answer.response.content, answer.response.headers["etag"]
        if len(text) != details["file_size"]:
            self.wrong(Invariant.NUMBERS, f"{report_id} has another size than its file")
        first = self.rng.randrange(len(text))
        last = self.rng.randrange(first, len(text))
        part = await self.ask(
            "CSV, part",
            "GET",
            path,
            expected=(206,),
            headers={**plain, "Range": f"bytes={first}-{last}", "If-Range": etag},
        )
        if part and part.response.content != text[first : last + 1]:
            self.wrong(Invariant.NUMBERS, f"{report_id}: a part differs from the whole")
        packed = await self.ask("CSV, gzip", "GET", path, headers={"Accept-Encoding": "gzip"})
        if packed and packed.response.content != text:
            self.wrong(Invariant.NUMBERS, f"{report_id}: packed it differs")
        await self.ask(
            "CSV, known", "GET", path, expected=(304,), headers={**plain, "If-None-Match": etag}
        )
        return text

    def _look_at(
        self,
        report_id: UUID,
        question: Question | None,
        asked: set[str],
        named: set[str],
        text: bytes,
    ) -> None:
        """Judge what can be judged now, and keep the lines that must not change."""
        lines = text.decode().splitlines()
        ids = [row[0] for row in csv.reader(lines[1:])]
        if ids != sorted(set(ids)):
            self.wrong(Invariant.NUMBERS, f"{report_id}: stores are not in order, or come twice")
        expected = asked or self.world.frozen | named
        if not expected <= set(ids) or (asked and asked != set(ids)):
            self.wrong(Invariant.NUMBERS, f"{report_id}: some stores lack, or are too many")
        if question:
            kept = [
                line
                for line, store in zip(lines[1:], ids, strict=True)
                if store in self.world.frozen
            ]
            self.world.csvs.setdefault(question, set()).add((lines[0], *kept))

    async def _delete(self, report_id: UUID) -> None:
        asked = self.world.reports[report_id]
        asked.deleting = True
        # Gone already, where an attempt without an answer did it.
        answer = await self.ask(
            "delete a report", "DELETE", f"/reports/{report_id}", expected=(200, 204, 404)
        )
        if answer is None:
            return
        asked.deleted = True
        if answer.response.status_code == 404 and answer.at_once:
            self.wrong(Invariant.REPORTS, f"{report_id} was gone before it was deleted")
        after = await self.ask("a report", "GET", f"/reports/{report_id}", expected=_OK_OR_GONE)
        if after and after.response.status_code != 404:
            self.wrong(Invariant.REPORTS, f"{report_id} is still there after it was deleted")


class Cancels(Reports):
    """Asks for reports and cancels them, some at once, some in the middle."""

    share = 0.01

    async def once(self) -> None:
        report_id = await self.trigger(self.rng.choice(QUESTIONS).body())
        if report_id is None:
            return
        await asyncio.sleep(self.rng.choice((0, 0, 0.05, 0.3)))
        asked = self.world.reports[report_id]
        if self.world.can_cancel:
            method, path = "POST", f"/reports/{report_id}/cancel"
        else:  # that deletes one which has ended by now
            method, path = "DELETE", f"/reports/{report_id}"
            asked.deleting = True
        # Too late is an answer: it is completed, or was deleted by an attempt without an answer.
        expected = (200, 202, 204, 404 if asked.deleting else 409)
        if await self.ask("cancel a report", method, path, expected=expected) is None:
            return
        asked.cancelled = True
        after = await self.ask("a report", "GET", f"/reports/{report_id}", expected=_OK_OR_GONE)
        if after and after.response.status_code == 200:
            status = after.response.json()["status"]
            # Too late for one that a full disk ended before.
            if status not in ("cancelled", "completed", "failed"):
                self.wrong(Invariant.REPORTS, f"a report is {status} after it was cancelled")


class Readers(Client):
    """Reads what nobody changes, which must never change, and what others change."""

    share = 0.08

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        self._read: dict[str, bytes] = {}
        self._some = self.rng.sample(sorted(world.frozen), 20)

    async def once(self) -> None:
        store_id = self.rng.choice(self._some)
        question = self.rng.choice(QUESTIONS)
        window = {"to": question.as_of, "interpolation": question.interpolation}
        kind = self.rng.choice(("availability", "timeline"))
        path = f"/stores/{store_id}/{kind}?{httpx.QueryParams(window)}"
        answer = await self.ask(kind, "GET", path)
        if answer:
            told = answer.response.content
            if self._read.setdefault(path, told) != told:
                self.wrong(Invariant.NUMBERS, f"{path} was answered otherwise before")
            if kind == "availability":
                parts = answer.response.json()
                together = sum(parts[name] for name in ("uptime", "downtime", "unknown"))
                if abs(together - parts["business_time"]) > 1e-6:
                    self.wrong(Invariant.NUMBERS, f"{path}: the parts are not the whole")
        listing = self.rng.choice(("/stores?limit=50", "/reports?limit=20", "/metrics"))
        await self.ask(listing.partition("?")[0], "GET", listing)


class Malformed(Client):
    """Sends what is wrong; nothing of it may be stored."""

    share = 0.05

    async def once(self) -> None:
        store_id = f"{self.name}-never"
        row = Row(store_id, self.world.clock(), True)
        good = _as_json(row)
        csv_rows = _as_csv([row] * 50, self.rng)
        report = f"/reports/{UUID(int=self.rng.getrandbits(128), version=4)}"
        store = f"/stores/{store_id}"
        requests: list[tuple[str, str, dict[str, Any]]] = [
            ("POST", "/polls", {"json": [good, {**good, "status": "up"}]}),
            ("POST", "/polls", {"json": [good, {**good, "store_id": 7}]}),
            ("POST", "/polls", {"json": good}),
            ("POST", "/polls", {"content": b'[{"store_id":', "headers": _JSON}),
            ("POST", "/polls", {"content": b"\xff\xfe", "headers": _JSON}),
            ("POST", "/polls", {"content": csv_rows, "headers": {"Content-Type": "text/plain"}}),
            ("POST", "/polls", {"content": csv_rows + b"x,active,yesterday\n", "headers": _CSV}),
            ("POST", "/polls", {"content": b"store_id,status\nx,active\n", "headers": _CSV}),
            ("POST", "/polls", {"content": gzip.compress(csv_rows)[:-9], "headers": _CSV}),
            ("PUT", "/polls", {"json": [good]}),
            ("PUT", f"{store}/business-hours", {"json": [{"day": 9}]}),
            ("PUT", f"{store}/timezone", {"json": {"timezone": "Mars/Phobos"}}),
            ("GET", store, {}),
            ("GET", f"{store}/availability?from=tomorrow", {}),
            ("GET", "/stores?cursor=here", {}),
            ("POST", "/reports", {"json": {"as_of": "yesterday"}}),
            ("POST", "/reports", {"json": {"stores": [store_id]}}),
            ("POST", "/reports", {"json": {"colour": "red"}}),
            ("POST", "/reports", {"content": b"{", "headers": _JSON}),
            ("GET", report, {}),
            ("GET", f"{report}/csv", {}),
            ("DELETE", report, {}),
        ]
        choice = self.rng.randrange(len(requests) + 2)
        if choice >= len(requests):
            await self._break_off(csv_rows)
            return
        method, path, request = requests[choice]
        answer = await self.ask("malformed", method, path, expected=range(400, 429), **request)
        if answer and answer.response.headers["content-type"] != "application/problem+json":
            self.wrong(Invariant.ANSWERS, f"{method} {path}: the error is no problem document")

    async def _break_off(self, body: bytes) -> None:
        """A body that ends before its end, at the end of a row: whole rows came."""

        async def pieces() -> Any:
            yield body
            raise ConnectionAbortedError

        try:
            url = f"{self.an_instance().base_url}/polls"
            await self.http.post(url, content=pieces(), headers=_CSV)
        except (ConnectionAbortedError, httpx.TransportError):
            self.answers.counts["malformed", "broken off"] += 1


class Health(Client):
    """Asks as a load balancer does."""

    share = 0.05

    async def once(self) -> None:
        await self.ask("health, live", "GET", "/health/live")
        # On a busy machine an instance may well say that it is not: then it gets no requests.
        await self.ask("health, ready", "GET", "/health/ready", expected=(200, 503), patient=False)


#: Who there is, and how many of each.
CLIENTS: tuple[tuple[type[Client], int], ...] = (
    (SinglePolls, 3),
    (SmallFiles, 2),
    (LargeFiles, 2),
    (WrongClock, 1),
    (Settings, 2),
    (Reports, 3),
    (Cancels, 1),
    (Readers, 2),
    (Malformed, 1),
    (Health, 1),
)


async def run_clients(world: World) -> None:
    """Let all clients work until the soak is over, and end what they have begun."""
    async with asyncio.TaskGroup() as group:
        for kind, count in CLIENTS:
            for number in range(count):
                group.create_task(kind(world, number).run())


def _as_json(row: Row) -> dict[str, str]:
    stamp = row.timestamp().replace(" ", "T") + "Z"
    return {"store_id": row.store_id, "status": row.status, "timestamp_utc": stamp}


def _as_csv(rows: Sequence[Row], rng: random.Random) -> bytes:
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(("store_id", "status", "timestamp_utc"))
    for row in rows:
        lines.writerow((row.store_id, row.status, f"{row.timestamp(rng.randrange(1000))} UTC"))
    return text.getvalue().encode()


def _made_up_week(rng: random.Random) -> Week:
    week = []
    for weekday in sorted(rng.sample(range(7), rng.randrange(8))):
        start, end = (minute * _MINUTE for minute in sorted(rng.sample(range(24 * 60), 2)))
        week.append((weekday, start, end))
    return tuple(week)


def _settings_of(answer: httpx.Response) -> tuple[Any, Any]:
    told = answer.json()
    return told["timezone"], told["business_hours"]


def _clock(milliseconds: int) -> str:
    return f"{milliseconds // _HOUR:02}:{milliseconds // _MINUTE % 60:02}:00"


def _iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()


def _milliseconds(text: str) -> int:
    return round(1000 * datetime.fromisoformat(text).timestamp())
