"""Single polls, one a request, as pollers send them: how many a second, and what disturbs them.

Each phase is some number of clients, of storewatch or of a row per poll. After each, the polls in
the database are counted: as many must be new as were acknowledged, and no more than were sent.
"""

import asyncio
import http.client
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import msgspec
import psutil
from rich.table import Column, Table

from compute.axis import DAY_MS
from service.database.embedded import embedded_postgres
from service.feeds.made_up import store_ids, write_feed
from tests.bench import row_rival, subject
from tests.bench.clients import Answers, Load, start, together
from tests.bench.measure import console
from tests.harness.database import ask
from tests.harness.processes import eventually, free_port
from tests.harness.service import Service, running_service

#: How often a report is asked for while polls arrive, seconds.
_REPORT_EVERY = 2.0
#: So many clients read beside the polls, each after a pause of so many seconds on average.
_READERS, _READERS_PAUSE = 8, 0.1
#: The older polls end before those of `load_many` begin.
_OLDER = timedelta(days=10)
_POLLS_A_STORE_AND_DAY = 21  # of a made-up feed
_STILL_SECONDS = 0.25
#: A day has a poll for so many stores where each is to be the first of its store and day, mostly.
_STORES_A_POLL = 15


@dataclass
class Contestant:
    """Somebody who takes polls: storewatch, or its rival.

    Attributes:
        name: whose
        base_url: where it answers
        count: counts the polls that it has
        used: seconds of processor time so far, by who used them
        first: instant of the next poll, ms since 1970 UTC
    """

    name: str
    base_url: str
    count: Callable[[], int]
    used: Callable[[], dict[str, float]]
    first: int = int(subject.NEWEST.timestamp() * 1000) + 1

    def send(
        self, ids: str, connections: int, seconds: float, *, anew: bool = False, step: int = 1
    ) -> Answers:
        """Send polls for some seconds, over a connection each and so far apart if so wanted."""
        load = Load(self.base_url, ids, "polls", connections, seconds, self.first, step, anew=anew)
        answers = start(load)()
        self.first += answers.sent * step
        return answers

    def check(self, before: int, answers: Answers, more: int = 0) -> None:
        """Stop unless it has the polls that it acknowledged, beside `before` and `more`."""
        last, now = -1, self.count()
        while last != now:  # requests that nobody waits for any more
            time.sleep(_STILL_SECONDS)
            last, now = now, self.count()
        stored = now - before - more
        if not answers.acknowledged <= stored <= answers.sent:
            raise RuntimeError(
                f"{self.name} has {stored:,} new polls, of a phase in which {answers.sent:,} were "
                f"sent and {answers.acknowledged:,} acknowledged"
            )


@dataclass(frozen=True)
class Phase:
    """What became of a phase.

    Attributes:
        answers: to the polls
        used: seconds of processor time, by who used them
    """

    answers: Answers
    used: dict[str, float]

    def milliseconds(self, who: str) -> float:
        """Of processor time, for each poll that was acknowledged."""
        return 1000 * self.used[who] / max(1, self.answers.acknowledged)


def _phase(contestant: Contestant, run: Callable[[], tuple[list[Answers], int]]) -> Phase:
    """A phase, after which nothing may be lost.

    Args:
        contestant: who takes the polls
        run: sends them; returns what became of them, and how many polls came from somebody else
    """
    before, used = contestant.count(), contestant.used()
    parts, others = run()
    now = contestant.used()
    answers = together(parts)
    contestant.check(before, answers, others)
    spent = {who: now[who] - used[who] for who in now}
    return Phase(answers, spent | {"clients": answers.processor})


def measure(
    folder: Path,
    *,
    stores: int,
    connections: Sequence[int],
    seconds: float,
    rounds: int,
    bulk_polls: int,
) -> None:
    """Measure all of it, and print it.

    Args:
        folder: where older polls are kept for the next time
        stores: made-up ones, with a week of polls
        connections: numbers of them
        seconds: of a phase
        rounds: of all numbers of connections
        bulk_polls: that are loaded beside live ones, about; 0: none
    """
    older = _older_polls(folder, stores, bulk_polls) if bulk_polls else None
    with tempfile.TemporaryDirectory(dir=folder) as scratch, ExitStack() as stack:
        home = Path(scratch)
        home.chmod(0o755)
        ids = str(home / "ids")
        Path(ids).write_bytes(b"\n".join(store_ids(stores).tolist()) + b"\n")
        service = stack.enter_context(running_service(None, home, STOREWATCH_STATE_EVERY="60s"))
        dsn = asyncio.run(_load(home, folder, stores))
        ours = _storewatch(service, dsn)
        rival = stack.enter_context(_row_rival(service, dsn))
        _side_by_side(ours, rival, ids, connections, seconds, rounds)

        many = 128 if 128 in connections else max(connections)
        table = _table(f"storewatch, {many} connections", "beside")
        table.add_row("nothing", *_cells([_alone(ours, ids, many, seconds)]))
        table.add_row(
            "nothing, a connection a poll", *_cells([_alone(ours, ids, many, seconds, anew=True)])
        )
        beside = {"reports": _with_reports, "reads": _with_readers}
        if older is not None:
            beside["a bulk load"] = partial(_with_bulk_load, older=older)
        told = []
        for name, run in beside.items():
            phase, words = run(ours, ids, many, seconds)
            table.add_row(name, *_cells([phase]))
            told.append(words)
        # Last, as reports and reads would find nothing in the hours before such polls.
        firsts = _alone(ours, ids, many, seconds, step=_STORES_A_POLL * DAY_MS // stores)
        table.add_row("nothing, first polls of a day", *_cells([firsts]))
        console.print(table)
        console.print(*told, sep="\n")


def _older_polls(folder: Path, stores: int, polls: int) -> Path:
    """Polls from before the live ones, made once per size: that takes longer than to load them."""
    days = max(1, round(polls / stores / _POLLS_A_STORE_AND_DAY))
    place = folder / f"older-{stores}-{days}"
    if not place.exists():
        console.print(f"Making up {days} days of older polls of {stores:,} stores")
        partial = folder / f"{place.name}.partial"
        write_feed(partial, stores=stores, days=days, newest=subject.NEWEST - _OLDER)
        partial.rename(place)
    return place / "polls.csv"


async def _load(home: Path, folder: Path, stores: int) -> str:
    """Load stores with a week of polls, for both. Returns the database's URL."""
    async with subject.loader(home) as (pool, workers):
        await subject.load_many(pool, workers, folder, stores)
        await pool.execute(row_rival.TABLE)
        await pool.execute("vacuum analyze rival.poll")
        await pool.execute("checkpoint")
    async with embedded_postgres(home, own=False) as dsn:
        return dsn


def _storewatch(service: Service, dsn: str) -> Contestant:
    def used() -> dict[str, float]:
        main = psutil.Process(service.pid)
        database = _postgres(service)
        others = [process for process in service.processes() if process not in database]
        return {
            "service": _processor_seconds([main], with_ended=False),
            "workers": _processor_seconds(others),
            "PostgreSQL": _processor_seconds(database),
        }

    def count() -> int:
        return int(ask(dsn, "select coalesce(sum(length(polls)), 0) / 4 from poll_day")[0][0])

    return Contestant("storewatch", service.base_url, count, used)


@contextmanager
def _row_rival(service: Service, dsn: str) -> Iterator[Contestant]:
    port = free_port()
    popen = subprocess.Popen([sys.executable, "-m", "tests.bench.row_rival", dsn, str(port)])
    base_url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(base_url).status_code == 404
        return False

    def used() -> dict[str, float]:
        return {
            "service": _processor_seconds([psutil.Process(popen.pid)]),
            "workers": 0.0,
            "PostgreSQL": _processor_seconds(_postgres(service)),
        }

    try:
        eventually(answers)
        yield Contestant(
            "a row per poll",
            base_url,
            lambda: int(ask(dsn, "select count(*) from rival.poll")[0][0]),
            used,
        )
    finally:
        popen.terminate()
        popen.wait()


def _postgres(service: Service) -> list[psutil.Process]:
    """The processes of the service's embedded PostgreSQL."""
    found = []
    for process in service.processes():
        with suppress(psutil.NoSuchProcess):  # it has just ended
            if process.name() == "postgres":
                found.append(process)
    return found


def _processor_seconds(processes: Iterable[psutil.Process], with_ended: bool = True) -> float:
    """Processor time of processes, and of those of their children that have ended."""
    seconds = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            seconds += times.user + times.system
            if with_ended:
                seconds += times.children_user + times.children_system
    return seconds


def _side_by_side(
    ours: Contestant,
    rival: Contestant,
    ids: str,
    connections: Sequence[int],
    seconds: float,
    rounds: int,
) -> None:
    phases: dict[tuple[int, str], list[Phase]] = {}
    for _ in range(rounds):
        for number in connections:
            for contestant in (ours, rival):
                phases.setdefault((number, contestant.name), []).append(
                    _alone(contestant, ids, number, seconds)
                )
    table = _table(
        f"Single polls, medians of {rounds} rounds of {seconds:g} s", "conns", "who", "ratio"
    )
    for number in connections:
        mine, theirs = (phases[number, contestant.name] for contestant in (ours, rival))
        ratios = [
            my.answers.a_second / their.answers.a_second
            for my, their in zip(mine, theirs, strict=True)
            if their.answers.acknowledged
        ]
        ratio = f"{statistics.median(ratios):.2f}" if ratios else ""
        table.add_row(str(number), ours.name, ratio, *_cells(mine))
        table.add_row("", rival.name, "1", *_cells(theirs))
    console.print(table)


def _alone(
    contestant: Contestant,
    ids: str,
    connections: int,
    seconds: float,
    *,
    anew: bool = False,
    step: int = 1,
) -> Phase:
    send = partial(contestant.send, ids, connections, seconds, anew=anew, step=step)
    return _phase(contestant, lambda: ([send()], 0))


def _with_reports(
    ours: Contestant, ids: str, connections: int, seconds: float
) -> tuple[Phase, str]:
    reports = _Reports(ours.base_url)

    def run() -> tuple[list[Answers], int]:
        with reports.asked_for():
            return [ours.send(ids, connections, seconds)], 0

    return _phase(ours, run), reports.in_words()


@dataclass
class _Reports:
    """Reports that are asked for again and again, each followed by its events.

    Attributes:
        base_url: of the service
        taken: seconds from the question to the event of its completion
        ended: reports by what became of them, or by the status of a refusal
    """

    base_url: str
    taken: list[float] = field(default_factory=list)
    ended: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def asked_for(self) -> Iterator[None]:
        """Ask for one every two seconds; at the end wait for the last."""
        over = threading.Event()
        with ThreadPoolExecutor(32) as followers:
            asking = followers.submit(self._ask, followers, over)
            try:
                yield
            finally:
                over.set()
            for following in asking.result():
                following.result()

    def _ask(self, followers: ThreadPoolExecutor, over: threading.Event) -> list[Future[None]]:
        following = [followers.submit(self._follow)]
        while not over.wait(_REPORT_EVERY):
            following.append(followers.submit(self._follow))
        return following

    def _follow(self) -> None:
        begin = time.perf_counter()
        with httpx.Client(base_url=self.base_url, timeout=120) as client:
            answer = client.post("/reports", json={})
            if answer.status_code != 202:
                self.ended[str(answer.status_code)] += 1
                return
            status = "without an end"
            with client.stream("GET", f"{answer.headers['Location']}/events") as events:
                for line in events.iter_lines():
                    if line.startswith("data: {"):
                        status = msgspec.json.decode(line.removeprefix("data: "))["status"]
        self.ended[status] += 1
        if status == "completed":
            self.taken.append(time.perf_counter() - begin)

    def in_words(self) -> str:
        ended = ", ".join(f"{count} {status}" for status, count in sorted(self.ended.items()))
        took = (
            f"; median {statistics.median(self.taken):.2f} s, worst {max(self.taken):.2f} s"
            if self.taken
            else ""
        )
        return f"Reports beside polls: {ended}{took}"


def _with_readers(
    ours: Contestant, ids: str, connections: int, seconds: float
) -> tuple[Phase, str]:
    read = Answers()

    def run() -> tuple[list[Answers], int]:
        nonlocal read
        reads = Load(ours.base_url, ids, "reads", _READERS, seconds, pause=_READERS_PAUSE)
        reading = start(reads)
        answers = ours.send(ids, connections, seconds)
        read = reading()
        return [answers], 0

    return _phase(ours, run), (
        f"Reads of /stores/{{id}}/availability beside polls: {read.a_second:.0f} a second by "
        f"{_READERS} clients, p50 {1000 * read.percentile(50):.0f} ms, "
        f"p99 {1000 * read.percentile(99):.0f} ms; not 200: {_troubles([read])}"
    )


def _with_bulk_load(
    ours: Contestant, ids: str, connections: int, seconds: float, older: Path
) -> tuple[Phase, str]:
    words = ""

    def run() -> tuple[list[Answers], int]:
        nonlocal words
        parts: list[Answers] = []
        with ThreadPoolExecutor(1) as loader:
            loading = loader.submit(_post_file, ours.base_url, older)
            while not parts or not loading.done():
                parts.append(ours.send(ids, connections, seconds))
        loaded, taken = loading.result()
        worst = max(part.percentile(99) for part in parts)
        words = (
            f"Bulk load of {loaded:,} older polls beside single ones: {taken:.1f} s, "
            f"{loaded / taken:,.0f} a second; the worst {seconds:g} s of single polls had a p99 of "
            f"{1000 * worst:.0f} ms"
        )
        return parts, loaded

    phase = _phase(ours, run)
    return phase, words


def _post_file(base_url: str, file: Path) -> tuple[int, float]:
    """Send a file to `POST /polls`, as `curl -T` does. Returns the new polls, and seconds."""
    begin = time.perf_counter()
    # With pieces of a megabyte, so that sending takes little of the cores that are measured.
    connection = http.client.HTTPConnection(urlsplit(base_url).netloc, blocksize=1 << 20)
    with file.open("rb") as text:
        headers = {"Content-Type": "text/csv", "Content-Length": str(file.stat().st_size)}
        connection.request("POST", "/polls", text, headers)
        answer = connection.getresponse()
        told = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"the bulk load got {answer.status}: {told.decode()}")
    return int(msgspec.json.decode(told)["new"]), time.perf_counter() - begin


_PROCESSES = ("service", "workers", "PostgreSQL", "clients")


def _table(title: str, *first: str) -> Table:
    names = [Column(name, no_wrap=True) for name in first]
    return Table(
        *names,
        "requests/s",
        "p50 ms",
        "p99 ms",
        "worst ms",
        "not 200",
        "processor ms a poll: " + ", ".join(_PROCESSES),
        title=title,
    )


def _cells(phases: Sequence[Phase]) -> list[str]:
    """Medians over phases of one kind; what went wrong is added up."""

    def median(of: Callable[[Phase], float]) -> float:
        return statistics.median(map(of, phases))

    def percentile(percent: float) -> str:
        return f"{1000 * median(lambda phase: phase.answers.percentile(percent)):.1f}"

    def milliseconds(who: str) -> str:
        return f"{median(lambda phase: phase.milliseconds(who)):.2f}"

    return [
        f"{median(lambda phase: phase.answers.a_second):,.0f}",
        *map(percentile, (50, 99, 100)),
        _troubles([phase.answers for phase in phases]),
        " ".join(map(milliseconds, _PROCESSES)),
    ]


def _troubles(answers: Sequence[Answers]) -> str:
    """What was not answered with 200, in words: each status by itself."""
    every = together(answers)
    found = [
        f"{count} of {status}" for status, count in sorted(every.statuses.items()) if status != 200
    ]
    found += [f"{every.broken} broken"] * bool(every.broken)
    found += [f"{every.late} late"] * bool(every.late)
    return ", ".join(found) or "none"
