"""Instants as text → milliseconds since 1970-01-01 UTC, for feeds, requests and commands alike.

    YYYY-MM-DD, one space or T, hh:mm, then optionally :ss, and after that .f with any number of
    digits; then nothing, ` UTC` or Z, which all mean UTC, or an offset ±hh:mm, ±hhmm or ±hh

T and Z may be in lower case. What is finer than a millisecond is cut, not rounded.
"""

import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import overload

from compute.axis import DAY_MS

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: The last millisecond of the year 9998.
LATEST_MS = 253_370_764_799_999

_FORM = re.compile(
    "([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.]([0-9]+))?)?"
    "(?: UTC|[Zz]|([+-])([0-9]{2})(?::?([0-9]{2}))?)?"
)
_EPOCH_ORDINAL = EPOCH.toordinal()
_MILLISECOND = timedelta(milliseconds=1)


def day_of(date_: date) -> int:
    """A date in days since 1970-01-01."""
    return date_.toordinal() - _EPOCH_ORDINAL


def date_on(day: int) -> date:
    """The date of a day, in days since 1970-01-01."""
    return date.fromordinal(day + _EPOCH_ORDINAL)


def parse_instant(text: str) -> int:
    """Milliseconds since 1970-01-01 UTC, cut, of an instant in the form described above.

    Raises:
        ValueError: it is not one, or is before 1970 or after 9998; the message continues a sentence
            that begins with the text
    """
    try:
        milliseconds = _milliseconds(text)
    except ValueError:
        raise ValueError(
            "is not an instant such as 2023-01-22 12:09:39.388884 UTC or 2023-01-22T12:09:39Z"
        ) from None
    if not 0 <= milliseconds <= LATEST_MS:
        raise ValueError("is before 1970 or after 9998")
    return milliseconds


@overload
def instant_of(milliseconds: int) -> datetime: ...
@overload
def instant_of(milliseconds: None) -> None: ...
@overload
def instant_of(milliseconds: int | None) -> datetime | None: ...
def instant_of(milliseconds: int | None) -> datetime | None:
    """The instant that is so many milliseconds after 1970-01-01 UTC; none of none."""
    return None if milliseconds is None else EPOCH + milliseconds * _MILLISECOND


@overload
def milliseconds_of(instant: datetime) -> int: ...
@overload
def milliseconds_of(instant: None) -> None: ...
@overload
def milliseconds_of(instant: datetime | None) -> int | None: ...
def milliseconds_of(instant: datetime | None) -> int | None:
    """Milliseconds since 1970-01-01 UTC of an instant with a time zone, cut; none of none."""
    return None if instant is None else (instant - EPOCH) // _MILLISECOND


def _milliseconds(text: str) -> int:
    form = _FORM.fullmatch(text)
    if form is None:
        raise ValueError
    day, hours, minutes, seconds, fraction, sign, offset_hours, offset_minutes = form.groups()
    hour, minute, second = int(hours), int(minutes), int(seconds or 0)
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError
    milliseconds = _midnight(day) + ((hour * 60 + minute) * 60 + second) * 1000
    if fraction:
        milliseconds += int(fraction[:3].ljust(3, "0"))
    if sign:
        hour, minute = int(offset_hours), int(offset_minutes or 0)
        if hour > 23 or minute > 59:
            raise ValueError
        offset = (hour * 60 + minute) * 60_000
        milliseconds += offset if sign == "-" else -offset
    return milliseconds


@lru_cache(maxsize=4096)  # a feed has many polls of each day
def _midnight(day: str) -> int:
    return day_of(date.fromisoformat(day)) * DAY_MS
