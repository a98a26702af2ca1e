"""A feed of any kind, as text → checked → merged into the database.

First the whole feed is read, checked and set aside; then, if all of it is good, it is written in
one transaction. So a bad feed changes nothing, and memory does not grow with the feed.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import asyncpg
import numpy as np

from compute.axis import DAY_MS, Ints
from compute.feed_faults import FAULTS_SHOWN, Fault, FeedRefused
from compute.feed_header import Feed, Header, read_header, recognise
from compute.feed_rows import FeedRows, odd_rows, plain_rows
from service import counts
from service.feeds.history import COMMAND, NOBODY, Ingested, Sender, note_load, note_refusal
from service.feeds.merge import merge
from service.feeds.spool import Spool
from service.feeds.storing import storing
from service.feeds.text import Block, Form, blocks
from service.storage import Folder
from service.workers.pool import Workers
from service.workers.stream import stream

# The command, of which a small load is to be quick, need not import what only the service uses.
if TYPE_CHECKING:
    from service.feeds.poll_line import PollLine

#: Blocks of a feed that are parsed at the same time. More would wait for text, which is cut by one
#: thread, and each takes some 50 MB.
_BLOCKS_AT_ONCE = 3
#: Rows that a store may have in a feed other than polls: all of them are in memory at once.
_MOST_ROWS_OF_STORE = 100_000


class FeedFile(NamedTuple):
    """A file of a feed.

    Attributes:
        name: for messages about faults; empty: there is only one file
        pieces: plain, gzip or zstd, in pieces of any size
        form: of the text; NDJSON has polls alone
    """

    name: str
    pieces: AsyncIterator[bytes]
    form: Form = "csv"


class FeedText(NamedTuple):
    """A file of a feed, unpacked.

    Attributes:
        name: for the reader of faults; empty: there is only one
        blocks: as `service.feeds.text` gives them
        form: of the text
    """

    name: str
    blocks: AsyncIterator[Block]
    form: Form = "csv"


def latest_poll() -> int:
    """The latest instant that a poll may have now: a day after the clock, ms since 1970 UTC.

    A later one would become the `as_of` of every report that is given none.
    """
    return time.time_ns() // 1_000_000 + DAY_MS


async def ingest(
    pool: asyncpg.Pool,
    workers: Workers,
    feed: Feed,
    files: Sequence[FeedFile],
    most_bytes: int | None = None,
    *,
    aside: Folder,
    sender: Sender = NOBODY,
) -> Ingested:
    """Load a feed, all of it or nothing.

    Args:
        pool: the database
        workers: parse the text
        feed: what the files are about
        files: together the feed, in this order; each has a header of its own
        most_bytes: how many each file may have, packed and unpacked; None: any number
        aside: where its rows are kept until all of it is known to be good
        sender: who sent it

    Raises:
        FeedRefused: something is wrong with it; nothing of it is stored
        StorageFailed: it cannot be set aside; nothing of it is stored
        TooLarge: a file has more bytes; nothing is stored
    """
    texts = [text_of(file, most_bytes) for file in files]
    return await ingest_texts(pool, workers, feed, texts, aside=aside, sender=sender)


def text_of(file: FeedFile, most_bytes: int | None = None) -> FeedText:
    """A file as its text.

    Args:
        file: any
        most_bytes: of it, packed and unpacked; None: any number
    """
    text = blocks(file.name, file.pieces, most_bytes, file.form)
    return FeedText(file.name, text, file.form)


async def recognised(text: FeedText) -> tuple[Feed, FeedText]:
    """Tell which feed a file is of, by its first line; no more of it is read.

    Args:
        text: of the file

    Returns:
        the feed, and the whole text

    Raises:
        FeedRefused: it is no text of a feed
        FeedUnknown: its header is none of a feed's
        TooLarge: it has more bytes than are taken
    """
    try:
        first = await anext(text.blocks, None)
        if first is None:
            raise _empty(text.name)
        feed = recognise(text.name, first.text)
    except FeedRefused:
        counts.INGEST_REFUSED["unknown"] += 1
        raise

    async def whole() -> AsyncIterator[Block]:
        yield first
        async for block in text.blocks:
            yield block

    return feed, FeedText(text.name, whole())


async def ingest_texts(
    pool: asyncpg.Pool,
    workers: Workers,
    feed: Feed,
    texts: Sequence[FeedText],
    *,
    aside: Folder,
    sender: Sender | None,
    poll_line: "PollLine | None" = None,
) -> Ingested:
    """As `ingest`, files that are read as text already; a few polls are stored by way of a line."""
    checked = await _check(workers, feed, texts, aside)
    if poll_line is not None and feed == "polls" and 0 < checked.spool.rows <= poll_line.small:
        with contextlib.closing(checked.spool):
            rows = FeedRows(checked.store_ids, *await asyncio.to_thread(checked.spool.all))
        return await _store_in_line(poll_line, rows, sender)
    return await _store(pool, checked, sender)


async def ingest_each(
    pool: asyncpg.Pool,
    workers: Workers,
    feeds: Iterable[tuple[Feed, Sequence[FeedFile]]],
    *,
    aside: Folder,
    at_once: int = 2,
    on_checked: Callable[[], object] = lambda: None,
) -> AsyncIterator[Ingested | FeedRefused]:
    """Load feeds in their order, each by itself; while one is stored, the next ones are checked.

    It is for the command: what becomes of them is noted as of it.

    Args:
        pool: the database
        workers: parse the texts
        feeds: feed and files of each, as `ingest` takes them
        aside: as `ingest` takes it
        at_once: feeds that are checked at the same time: each takes some 80 MB
        on_checked: called, in a thread, when all texts are parsed

    Yields:
        what became of each

    Raises:
        StorageFailed: one cannot be set aside; nothing of it is stored
    """

    room = asyncio.Semaphore(at_once)  # which they get in their order

    async def check(feed: Feed, files: Sequence[FeedFile]) -> Checked | FeedRefused:
        async with room:
            try:
                return await _check(workers, feed, list(map(text_of, files)), aside)
            except FeedRefused as refused:
                await note_refusal(pool, feed, COMMAND, refused)
                return refused

    checks = [asyncio.create_task(check(feed, files)) for feed, files in feeds]

    async def tell() -> None:
        await asyncio.gather(*checks, return_exceptions=True)
        await asyncio.to_thread(on_checked)

    telling = asyncio.create_task(tell())
    try:
        for ahead in checks:
            checked = await ahead
            if isinstance(checked, FeedRefused):
                yield checked
                continue
            try:
                done = await _store(pool, checked, COMMAND)
            except FeedRefused as refused:
                await note_refusal(pool, checked.feed, COMMAND, refused)
                yield refused
            else:
                yield done
    finally:
        for task in (*checks, telling):
            task.cancel()


async def ingest_rows(
    pool: asyncpg.Pool, poll_line: "PollLine", feed: Feed, rows: FeedRows
) -> Ingested:
    """Load rows that are already in memory, all of them or nothing.

    Args:
        pool: the database
        poll_line: where polls wait until they are stored
        feed: what the rows are about
        rows: parsed; of polls at most SMALL

    Raises:
        FeedRefused: something is wrong with them; nothing of them is stored
        LineFull: too many polls wait; nothing of them is stored
    """
    if feed == "polls":
        _refuse_faults(feed, rows)
        return await _store_in_line(poll_line, rows)
    return await _store(pool, checked_rows(feed, rows))


async def _store_in_line(
    poll_line: "PollLine", rows: FeedRows, sender: Sender | None = None
) -> Ingested:
    with _counted("polls"):
        done = await poll_line.store(rows, sender)
    counts.INGEST_ROWS["polls"] += done.rows
    return done


class Checked(NamedTuple):
    """A good feed, set aside.

    Attributes:
        feed: which
        store_ids: of its stores; the spool has their numbers. Of exclusions whom they cover, as
            `service.feeds.exclusions` writes it
        names: of time zones; the spool has their numbers
        spool: the rows
    """

    feed: Feed
    store_ids: list[str]
    names: list[str]
    spool: Spool


def checked_rows(feed: Feed, rows: FeedRows) -> Checked:
    """Rows that are in memory and stay there.

    Raises:
        FeedRefused: something is wrong with them
    """
    _refuse_faults(feed, rows)
    spool = Spool(None)
    names = _Numbers()
    _append(spool, feed, names, rows.store, rows)
    return Checked(feed, rows.store_ids, list(names), spool)


def _append(spool: Spool, feed: Feed, names: "_Numbers", store: Ints, rows: FeedRows) -> None:
    """Set rows aside: names of zones get numbers, and other texts are set aside beside the rows."""
    value = rows.value
    if feed == "timezones":
        value = names.of(rows.names)[value]
    elif rows.names:
        value = value.copy()
        value[:, -1] = spool.refer(rows.names)[value[:, -1]]
    spool.append(store, value)


def _refuse_faults(feed: Feed, rows: FeedRows) -> None:
    with _counted(feed):
        if rows.fault_count:
            raise FeedRefused(rows.faults, rows.fault_count)


async def _check(workers: Workers, feed: Feed, texts: Sequence[FeedText], aside: Folder) -> Checked:
    spool = Spool(aside)
    try:
        with _counted(feed):
            return await _set_aside(workers, feed, texts, spool)
    except BaseException:
        spool.close()
        raise


async def _store(pool: asyncpg.Pool, checked: Checked, sender: Sender | None = None) -> Ingested:
    """Store a feed; who sent it is noted, unless there is none to note."""
    try:
        with _counted(checked.feed):
            async with storing(pool, checked.spool.rows) as connection:
                done = await merge(connection, *checked)
                if sender is not None:
                    await note_load(connection, checked.feed, sender, done)
    finally:
        checked.spool.close()
    counts.INGEST_ROWS[checked.feed] += done.rows
    return done


@contextlib.contextmanager
def _counted(feed: Feed) -> Iterator[None]:
    """Count a feed that is refused."""
    try:
        yield
    except FeedRefused:
        counts.INGEST_REFUSED[feed] += 1
        raise


class _Numbers(dict[str, int]):
    """A number for each text, from 0, in order of appearance."""

    def __missing__(self, text: str) -> int:
        number = self[text] = len(self)
        return number

    def of(self, texts: list[str]) -> Ints:
        """The numbers of some texts."""
        return np.fromiter(map(self.__getitem__, texts), dtype=np.int64, count=len(texts))


async def _set_aside(
    workers: Workers, feed: Feed, texts: Sequence[FeedText], spool: Spool
) -> Checked:
    """Check the whole feed; its rows go to the spool."""
    stores, names = _Numbers(), _Numbers()
    faults: list[Fault] = []
    fault_count = 0
    latest = latest_poll()

    async def parse(part: _Part | FeedRows) -> FeedRows:
        if isinstance(part, FeedRows):
            return part
        header, (line, text) = part
        if isinstance(header, Header):
            if feed == "polls":
                rows = await workers.run_in_thread(plain_rows, header, text, latest)
                if rows is not None:
                    return rows
            return await workers.run(odd_rows, feed, header, text, line, latest)
        from service.feeds.json_rows import line_rows

        return await workers.run(line_rows, header, text, line, latest)

    def add(rows: FeedRows) -> None:
        if len(rows.store):
            _append(spool, feed, names, stores.of(rows.store_ids)[rows.store], rows)

    async def keep(rows: FeedRows) -> float:
        nonlocal fault_count
        faults.extend(rows.faults[: FAULTS_SHOWN - len(faults)])
        fault_count += rows.fault_count
        if not fault_count:
            await asyncio.to_thread(add, rows)
        return 0

    await stream(workers, _parts(feed, texts), parse, keep, _BLOCKS_AT_ONCE)
    if fault_count:
        raise FeedRefused(faults, fault_count)
    if feed != "polls" and spool.most_rows > _MOST_ROWS_OF_STORE:
        problem = f"a store has {spool.most_rows} rows; at most {_MOST_ROWS_OF_STORE} are allowed"
        raise FeedRefused([Fault(1, "", "", problem)], 1)
    return Checked(feed, list(stores), list(names), spool)


#: The header of its file, or of NDJSON, which has none, its name.
_Part: TypeAlias = tuple[Header | str, Block]


async def _parts(feed: Feed, texts: Sequence[FeedText]) -> AsyncIterator[_Part | FeedRows]:
    """The files in blocks; for a file that cannot be read to its end, finally the reason."""
    dated: bool | None = None  # whether the files of business hours have dates
    for name, text, form in texts:
        header: Header | str | None = name if form == "ndjson" else None
        try:
            async for block in text:
                if header is None:
                    header = read_header(feed, name, block.text)
                    if dated not in (None, "valid_from" in header.columns):
                        raise _mixed(name)
                    dated = "valid_from" in header.columns
                else:
                    yield header, block
            if header is None:
                raise _empty(name)
        except FeedRefused as refused:
            yield FeedRows(faults=refused.faults, fault_count=refused.count)


def _empty(name: str) -> FeedRefused:
    return FeedRefused([Fault(1, "", "", "it is empty: it does not even have a header", name)], 1)


def _mixed(name: str) -> FeedRefused:
    problem = (
        "of the files that are loaded together, some have the column valid_from and some have not: "
        "those without it replace all weeks of their stores, so load them by themselves"
    )
    return FeedRefused([Fault(1, "", "", problem, name)], 1)
