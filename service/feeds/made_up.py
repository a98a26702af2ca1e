"""A feed of stores that do not exist: for the demo, the tests and the benchmarks.

Every value is a hash of (seed, what it is for, store, time), never the next number of a stream. So
the same arguments give the same bytes everywhere, store 7 is the same store in a feed of ten and of
a million, the order of the rows changes no row, and a part needs nothing of what comes before it.
"""

import gzip
import math
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from enum import IntEnum, auto
from pathlib import Path
from typing import Literal
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
from numpy.typing import NDArray

SECOND = 1_000_000  # instants in this module are microseconds
HOUR = 3600 * SECOND
DAY_SECONDS = 86_400  # clock times are seconds
ROWS_AT_ONCE = 65_536

# The week before it has the change to summer time in North America (2024-03-10), but not in Europe.
NEWEST = datetime(2024, 3, 14, 18, tzinfo=UTC)
SEED = 2024

ZONES = {
    "America/New_York": 0.46,
    "America/Los_Angeles": 0.19,
    "America/Chicago": 0.15,
    "America/Denver": 0.05,
    "America/Phoenix": 0.04,  # no summer time
    "America/Detroit": 0.02,
    "America/Indiana/Indianapolis": 0.01,
    "America/Boise": 0.01,
    "America/Toronto": 0.01,
    "America/Anchorage": 0.005,
    "Pacific/Honolulu": 0.005,
    "Europe/London": 0.02,
    "Europe/Berlin": 0.01,
    "Asia/Beirut": 0.005,
    "Asia/Kathmandu": 0.005,  # 5:45 ahead of UTC
    "Australia/Lord_Howe": 0.005,  # summer time is half an hour
    "Pacific/Auckland": 0.005,
}


class _Week(IntEnum):
    """How a store writes down its week."""

    NO_ROW = 0
    ALL_DAY = auto()
    ONE_SHIFT = auto()
    TWO_SHIFTS = auto()
    OVERNIGHT = auto()  # 17:00 to 02:00 in one row
    SPLIT_AT_MIDNIGHT = auto()  # the same in two rows
    THREE_SHIFTS = auto()
    FEW_DAYS = auto()


_SHARES = {
    _Week.NO_ROW: 0.20,
    _Week.ALL_DAY: 0.12,
    _Week.ONE_SHIFT: 0.43,
    _Week.TWO_SHIFTS: 0.09,
    _Week.OVERNIGHT: 0.06,
    _Week.SPLIT_AT_MIDNIGHT: 0.06,
    _Week.THREE_SHIFTS: 0.01,
    _Week.FEW_DAYS: 0.03,
}


class _Of(IntEnum):
    """What a hash is for; the same store and time have another number for each."""

    ID = auto()
    IS_UUID = auto()
    UUID_HIGH = auto()
    UUID_LOW = auto()
    WEEK = auto()
    OPENS = auto()
    CLOSES = auto()
    DAYS_OFF = auto()
    END_OF_DAY = auto()
    ZONE = auto()
    HAS_ZONE = auto()
    NEVER_POLLED = auto()
    ROUND_THE_CLOCK = auto()
    MINUTE = auto()
    JITTER = auto()
    MISSED = auto()
    OUTAGE_CHANCE = auto()
    OUTAGE = auto()
    NOT_POLLED = auto()
    LATENESS = auto()
    SHUFFLE = auto()


class FeedFiles(msgspec.Struct, frozen=True):
    """Where the three files of one feed are."""

    polls: Path
    business_hours: Path
    timezones: Path


class _Stores(msgspec.Struct, frozen=True):
    """What stays the same about stores; each array has one element per store."""

    number: NDArray[np.int64]
    week: NDArray[np.int64]  # of `_Week`
    opens: NDArray[np.int64]  # seconds of the local day
    closes: NDArray[np.int64]  # seconds of the local day; at or before `opens`: on the next day
    end_of_day: NDArray[np.int64]  # how it writes midnight: 23:59:59 or 23:59:00, in seconds
    zone: NDArray[np.int64]  # index into ZONES
    has_zone: NDArray[np.bool_]  # false: the feed does not say
    is_polled: NDArray[np.bool_]
    round_the_clock: NDArray[np.bool_]  # polled whether it is open or not
    minute: NDArray[np.int64]  # where in the hour its polls fall, microseconds
    outage_chance: NDArray[np.float64]  # that one begins on a day


def write_feed(
    folder: Path,
    *,
    stores: int,
    days: int = 8,
    seed: int = SEED,
    newest: datetime = NEWEST,
    order: Literal["time", "shuffled"] = "time",
    compress: bool = False,
) -> FeedFiles:
    """Write polls, business hours and time zones of made-up stores as CSV, a part at a time.

    The polls span `days` days; the newest is at `newest` exactly. They come as they would have
    arrived, up to two minutes late, or shuffled; the rows are the same. With `compress` the files
    end in `.csv.gz`. Raises `ValueError` for arguments that no feed can be made of.
    """
    _check(stores, days, seed, newest)
    folder.mkdir(parents=True, exist_ok=True)
    ending = ".csv.gz" if compress else ".csv"
    files = FeedFiles(
        polls=folder / f"polls{ending}",
        business_hours=folder / f"business_hours{ending}",
        timezones=folder / f"timezones{ending}",
    )
    everyone = _stores(0, stores, seed)
    ids = store_ids(stores, seed)
    _write(files.polls, _poll_lines(everyone, ids, days, seed, newest, order))
    _write(files.business_hours, _business_hours_lines(everyone, ids, seed))
    _write(files.timezones, _timezone_lines(everyone, ids))
    return files


def store_ids(stores: int, seed: int = SEED) -> NDArray[np.bytes_]:
    """Name the first stores: ASCII `S36[stores]`, numbers of 17 to 19 digits and some UUIDs."""
    number = np.arange(stores)
    ids = (_hash(seed, _Of.ID, number) % np.uint64(9 * 10**18) + np.uint64(10**16)).astype("S36")
    is_uuid = np.flatnonzero(_draw(seed, _Of.IS_UUID, number) < 0.08)
    high, low = _hash(seed, _Of.UUID_HIGH, is_uuid), _hash(seed, _Of.UUID_LOW, is_uuid)
    for store, a, b in zip(is_uuid.tolist(), high.tolist(), low.tolist(), strict=True):
        ids[store] = str(UUID(int=a << 64 | b, version=4)).encode()
    return ids


def poll_columns(
    stores: int, days: int = 8, seed: int = SEED, newest: datetime = NEWEST
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.bool_]]]:
    """Make the polls of `write_feed` as arrays, some stores at a time: to load without any text.

    Each part is `(store, instant, active)`: index into `store_ids`, milliseconds since 1970 UTC
    (cut) and whether the store was active; ascending by store, then by instant. Raises as
    `write_feed` does.
    """
    _check(stores, days, seed, newest)
    hours = _hours(days, newest)
    step = max(1, ROWS_AT_ONCE // len(hours))
    for first in range(0, stores, step):
        some = _stores(first, min(first + step, stores), seed)
        row = np.repeat(np.arange(len(some.number)), len(hours))
        row, instant, active = _polls(some, row, np.tile(hours, len(some.number)), seed, newest)
        yield some.number[row].astype(np.int32), instant // 1000, active


def _check(stores: int, days: int, seed: int, newest: datetime) -> None:
    if stores < 1 or days < 1 or seed < 0:
        raise ValueError(
            "a made-up feed needs at least one store, one day and a seed of 0 or more, "
            f"not stores={stores}, days={days}, seed={seed}"
        )
    if newest.utcoffset() is None:
        raise ValueError(f"newest needs a time zone, for instance UTC: {newest}")


def _hash(
    seed: int, purpose: _Of, store: NDArray[np.int64], time: NDArray[np.int64] | None = None
) -> NDArray[np.uint64]:
    """Mix the arguments to 64 even bits each: a weighted sum, then the finaliser of splitmix64."""
    start = (seed * 0xD1342543DE82EF95 + purpose * 0x9E3779B97F4A7C15) % 2**64
    mixed = store.astype(np.uint64) * np.uint64(0xA0761D6478BD642F)
    if time is not None:
        mixed += time.astype(np.uint64) * np.uint64(0xE7037ED1A0B428DB)
    mixed += np.uint64(start)
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def _draw(
    seed: int, purpose: _Of, store: NDArray[np.int64], time: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """Draw evenly from [0, 1)."""
    return (_hash(seed, purpose, store, time) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _choose(shares: Iterable[float], draw: NDArray[np.float64]) -> NDArray[np.int64]:
    limits: NDArray[np.float64] = np.cumsum(list(shares))
    chosen: NDArray[np.int64] = np.searchsorted(limits[:-1], draw * limits[-1], side="right")
    return chosen


def _stores(first: int, last: int, seed: int) -> _Stores:
    number = np.arange(first, last)

    def draw(purpose: _Of) -> NDArray[np.float64]:
        return _draw(seed, purpose, number)

    def half_hours(earliest: int, count: int, purpose: _Of) -> NDArray[np.int64]:
        return (earliest + count * draw(purpose)).astype(np.int64) * 1800

    week = _choose(_SHARES.values(), draw(_Of.WEEK))
    open_late = (week == _Week.OVERNIGHT) | (week == _Week.SPLIT_AT_MIDNIGHT)
    never_closed = (week == _Week.NO_ROW) | (week == _Week.ALL_DAY)
    is_polled = draw(_Of.NEVER_POLLED) >= 0.005
    return _Stores(
        number=number,
        week=week,
        opens=np.where(open_late, half_hours(32, 6, _Of.OPENS), half_hours(12, 12, _Of.OPENS)),
        closes=np.where(open_late, half_hours(1, 6, _Of.CLOSES), half_hours(40, 8, _Of.CLOSES)),
        end_of_day=np.where(draw(_Of.END_OF_DAY) < 0.6, DAY_SECONDS - 1, DAY_SECONDS - 60),
        zone=_choose(ZONES.values(), draw(_Of.ZONE)),
        # A store that is never polled and has no hours either would not be in the feed at all.
        has_zone=(draw(_Of.HAS_ZONE) < 0.95) | ~is_polled,
        is_polled=is_polled,
        round_the_clock=never_closed | (draw(_Of.ROUND_THE_CLOCK) < 0.7),
        minute=(draw(_Of.MINUTE) * (HOUR * 2 // 3)).astype(np.int64),
        # Cubed: most stores hardly ever fail, a few all the time.
        outage_chance=0.32 * draw(_Of.OUTAGE_CHANCE) ** 3,
    )


def _hours(days: int, newest: datetime) -> NDArray[np.int64]:
    """List the hours since 1970 that the feed spans, ascending."""
    end = _microseconds(newest) // HOUR + 1
    return np.arange(end - days * 24, end)


def _microseconds(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _polls(
    stores: _Stores, row: NDArray[np.int64], hour: NDArray[np.int64], seed: int, newest: datetime
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Poll store `row` in hour `hour`, element by element, and leave out those that nobody made.

    Returns the rows that are left, their instants and whether the store was active.
    """
    store = stores.number[row]
    end = _microseconds(newest)
    # Within the store's hour, so that it has no two polls in one millisecond.
    jitter = (_draw(seed, _Of.JITTER, store, hour) * (HOUR // 3)).astype(np.int64)
    instant = hour * HOUR + stores.minute[row] + jitter
    is_newest = (store == 0) & (hour == end // HOUR)
    instant[is_newest] = end

    # The offset of one moment for the whole feed: this decides whom to poll, not what is open.
    ahead = [newest.astimezone(ZoneInfo(name)).utcoffset() or timedelta() for name in ZONES]
    seconds_ahead = np.array([offset.total_seconds() for offset in ahead], np.int64)
    local = instant // SECOND + seconds_ahead[stores.zone][row]
    margin = 3600
    open_for = (stores.closes - stores.opens) % DAY_SECONDS
    is_near = (local - stores.opens[row] + margin) % DAY_SECONDS < (open_for + 2 * margin)[row]
    made = stores.is_polled[row] & (stores.round_the_clock[row] | is_near) & (instant <= end)
    made &= _draw(seed, _Of.MISSED, store, hour) >= 0.03
    made &= ~_in_spell(seed, _Of.NOT_POLLED, store, instant, period=168 * HOUR, chance=0.04)
    made |= is_newest

    row, store, instant = row[made], store[made], instant[made]
    chance = stores.outage_chance[row]
    out = _in_spell(seed, _Of.OUTAGE, store, instant, period=24 * HOUR, chance=chance)
    return row, instant, ~out


def _in_spell(
    seed: int,
    purpose: _Of,
    store: NDArray[np.int64],
    instant: NDArray[np.int64],
    *,
    period: int,
    chance: NDArray[np.float64] | float,
) -> NDArray[np.bool_]:
    """Tell which instants fall into a spell, of which at most one begins in each `period`.

    It begins anywhere in the period and lasts a quarter of one on average, a whole one at the most.
    """
    covered = np.zeros(len(instant), np.bool_)
    latest = instant // period
    for begun in (latest, latest - 1):
        bits = _hash(seed, purpose, store, begun)
        begins, lasts, happens = (
            ((bits >> np.uint64(shift)) & np.uint64(2**21 - 1)) * 2.0**-21 for shift in (0, 21, 42)
        )
        since = (instant - begun * period) / period - begins
        covered |= (happens < chance) & (since >= 0) & (since < lasts * lasts * lasts)
    return covered


def _poll_lines(
    stores: _Stores,
    ids: NDArray[np.bytes_],
    days: int,
    seed: int,
    newest: datetime,
    order: Literal["time", "shuffled"],
) -> Iterator[bytes]:
    yield b"store_id,status,timestamp_utc\n"
    hours = _hours(days, newest)
    count = len(stores.number)
    # Shuffled without holding everything: a part has every store at another hour, and a stride that
    # shares no divisor with the number of hours takes a store through all of them.
    strides = range(len(hours) * 5 // 8, len(hours))
    stride = next(stride for stride in strides if math.gcd(stride, len(hours)) == 1)
    start = (_draw(seed, _Of.SHUFFLE, stores.number) * len(hours)).astype(np.int64)
    statuses = np.array([b"inactive", b"active"])
    first_day = int(hours[0]) // 24
    dates = np.arange(first_day, int(hours[-1]) // 24 + 1).astype("datetime64[D]").astype("S10")
    clock = _clock_times()
    digits = np.array([b"%03d" % number for number in range(1000)])
    trimmed = np.array([(b"%03d" % number).rstrip(b"0") for number in range(1000)])

    step = max(1, ROWS_AT_ONCE // count)
    for first in range(0, len(hours), step):
        turns = np.arange(first, min(first + step, len(hours)))
        row, turn = np.tile(np.arange(count), len(turns)), np.repeat(turns, count)
        if order == "shuffled":
            turn = (start[row] + turn * stride) % len(hours)
        row, instant, active = _polls(stores, row, hours[turn], seed, newest)
        arrival = _draw(seed, _Of.LATENESS, row, instant)
        if order == "time":
            arrival = instant + arrival * 120 * SECOND
        arrived = np.argsort(arrival, kind="stable")
        row, instant, active = row[arrived], instant[arrived], active[arrived]

        seconds, fraction = np.divmod(instant, SECOND)
        day, time = np.divmod(seconds, DAY_SECONDS)
        high, low = np.divmod(fraction, 1000)
        yield _lines(
            ids[row],
            b",",
            statuses[active.astype(np.int8)],
            b",",
            dates[day - first_day],
            b" ",
            clock[time],
            np.where(fraction > 0, b".", b""),
            np.where(low > 0, digits[high], trimmed[high]),
            trimmed[low],
            b" UTC\n",
        )


def _business_hours_lines(stores: _Stores, ids: NDArray[np.bytes_], seed: int) -> Iterator[bytes]:
    yield b"store_id,day,start_time_local,end_time_local\n"
    clock, weekdays = _clock_times(), np.array([b"%d" % weekday for weekday in range(7)])
    lunch_ends, dinner_begins = 14 * 3600 + 1800, 17 * 3600
    shifts: list[tuple[_Week, NDArray[np.int64] | int, NDArray[np.int64] | int]] = [
        (_Week.ALL_DAY, 0, stores.end_of_day),
        (_Week.ONE_SHIFT, stores.opens, stores.closes),
        (_Week.FEW_DAYS, stores.opens, stores.closes),
        (_Week.OVERNIGHT, stores.opens, stores.closes),
        (_Week.SPLIT_AT_MIDNIGHT, stores.opens, stores.end_of_day),
        (_Week.SPLIT_AT_MIDNIGHT, 0, stores.closes),
        (_Week.TWO_SHIFTS, stores.opens, lunch_ends),
        (_Week.TWO_SHIFTS, dinner_begins, stores.closes),
        (_Week.THREE_SHIFTS, 0, 600),
        (_Week.THREE_SHIFTS, stores.opens, lunch_ends),
        (_Week.THREE_SHIFTS, dinner_begins, stores.closes),
    ]
    day_off = _draw(seed, _Of.DAYS_OFF, stores.number)
    for weekday in range(7):
        is_open = np.ones(len(ids), np.bool_)
        is_open[(stores.week == _Week.FEW_DAYS) & (weekday > 3 * day_off)] = False
        if weekday in (0, 6):
            closed = day_off < 0.15 if weekday == 6 else day_off > 0.95
            is_open[(stores.week == _Week.ONE_SHIFT) & closed] = False
        for week, start, end in shifts:
            rows = np.flatnonzero(is_open & (stores.week == week))
            yield _lines(
                ids[rows],
                b",",
                weekdays[np.full(len(rows), weekday)],
                b",",
                clock[np.broadcast_to(start, len(ids))[rows]],
                b",",
                clock[np.broadcast_to(end, len(ids))[rows]],
                b"\n",
            )


def _timezone_lines(stores: _Stores, ids: NDArray[np.bytes_]) -> Iterator[bytes]:
    yield b"store_id,timezone_str\n"
    names = np.array([name.encode() for name in ZONES])
    yield _lines(ids[stores.has_zone], b",", names[stores.zone[stores.has_zone]], b"\n")


def _clock_times() -> NDArray[np.bytes_]:
    """Write every second of a day as HH:MM:SS, `S8[86400]`."""
    pairs = np.array([b"%02d" % number for number in range(60)])
    second = np.arange(DAY_SECONDS)
    hour, minute = pairs[second // 3600], pairs[second // 60 % 60]
    text = _table(hour, b":", minute, b":", pairs[second % 60])
    return text.view("S8").reshape(-1)


def _lines(*columns: NDArray[np.bytes_] | bytes) -> bytes:
    """Join columns to lines: arrays of one value per line, bytes for what every line has."""
    # Texts in an array are padded with NUL, which no line has.
    return _table(*columns).tobytes().translate(None, b"\0")


def _table(*columns: NDArray[np.bytes_] | bytes) -> NDArray[np.uint8]:
    """Put the bytes of columns side by side, `uint8[lines, bytes]`."""
    lines = next(len(column) for column in columns if not isinstance(column, bytes))
    widths = [len(c) if isinstance(c, bytes) else c.dtype.itemsize for c in columns]
    table = np.empty((lines, sum(widths)), np.uint8)
    left = 0
    for column, width in zip(columns, widths, strict=True):
        cells = np.frombuffer(column, np.uint8)
        table[:, left : left + width] = (
            cells if isinstance(column, bytes) else cells.reshape(-1, width)
        )
        left += width
    return table


def _write(path: Path, parts: Iterator[bytes]) -> None:
    with path.open("wb") as file:
        if path.suffix == ".gz":
            # No name and no time in its header: the same feed is the same bytes.
            with gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as packed:
                packed.writelines(parts)
        else:
            file.writelines(parts)
