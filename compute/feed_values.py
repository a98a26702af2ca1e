"""One value of a feed, as text → a number, or what is wrong with it."""

import re
from collections.abc import Sequence
from datetime import date

from compute.axis import DAY_MS
from compute.instants import date_on, day_of
from compute.zones import zone_names

#: Characters.
LONGEST_STORE_ID = 255
LONGEST_NAME = 255
LONGEST_TAG = 255
LONGEST_REASON = 255
#: Of one store.
MOST_TAGS = 50
#: PostgreSQL cannot store it in a text, so no store's id can have it.
NUL_IN_STORE_ID = "a store id cannot contain a NUL character"
_CLOCK = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d)(?:\.(\d+))?)?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_FIRST_YEAR, _LAST_YEAR = 1970, 9998
_YES_OR_NO = {"true": True, "false": False, "": False}
_WEEKDAYS = {str(day): day for day in range(7)}


def store_id_problem(store_id: str) -> str | None:
    """What is wrong with the id of a new store, if anything: this is what a store id may be."""
    if not store_id:
        return "a store id cannot be empty"
    if len(store_id) > LONGEST_STORE_ID:
        return f"a store id can have at most {LONGEST_STORE_ID} characters"
    if "\0" in store_id:
        return NUL_IN_STORE_ID
    if store_id != store_id.strip():
        return "a store id cannot begin or end with white space"
    if store_id in (".", ".."):
        return "a store id cannot be . or .., which browsers remove from URLs"
    if store_id == "*":
        return "a store id cannot be *, which stands for all stores"
    return None


def are_store_ids(texts: Sequence[str]) -> bool:
    """Whether all are what the ids of new stores may be; none is empty or too long."""
    # Of letters, digits and hyphens nothing can be wrong, and all are looked at together.
    if "".join(texts).replace("-", "").isalnum():
        return True
    return not any(map(store_id_problem, texts))


def status_of(text: str) -> int:
    """1 active, 0 inactive. ValueError: says what the value is not."""
    if text not in ("active", "inactive"):
        raise ValueError("is neither active nor inactive")
    return text == "active"


def weekday_of(text: str) -> int:
    """0 Monday to 6 Sunday. ValueError: says what the value is not."""
    if text not in _WEEKDAYS:
        raise ValueError("is not a weekday, 0 (Monday) to 6 (Sunday)")
    return _WEEKDAYS[text]


def start_of(text: str) -> int:
    """Milliseconds since midnight, before the end of the day. ValueError: says what it is not."""
    start = end_of(text)
    if start == DAY_MS:
        raise ValueError("is the end of a day; a start must be from 00:00 to 23:59:59")
    return start


def end_of(text: str) -> int:
    """Milliseconds since midnight, up to 24:00. ValueError: says what the value is not."""
    clock = _CLOCK.fullmatch(text)
    if clock is None:
        raise ValueError("is not a time of day such as 09:30 or 09:30:00")
    hour, minute, second = (int(part or 0) for part in clock.group(1, 2, 3))
    milliseconds = int(((clock[4] or "") + "000")[:3])
    time = ((hour * 60 + minute) * 60 + second) * 1000 + milliseconds
    if minute > 59 or second > 59 or time > DAY_MS:
        raise ValueError("is not a time of day from 00:00 to 24:00")
    return time


def zone_problem(name: str) -> str | None:
    """What is wrong with the name of a time zone that a feed or a request gives, if anything."""
    if name not in zone_names():
        return "is not a time zone of the tz database, such as America/Chicago"
    return None


def date_of(text: str) -> int:
    """Days since 1970-01-01. ValueError: says what the value is not."""
    try:
        if not _DATE.fullmatch(text):
            raise ValueError
        day = date.fromisoformat(text)
    except ValueError:
        raise ValueError("is not a date such as 2024-12-25") from None
    if not _FIRST_YEAR <= day.year <= _LAST_YEAR:
        raise ValueError("is before 1970 or after 9998")
    return day_of(day)


def date_text(day: int) -> str:
    """A date, given in days since 1970-01-01, as text."""
    return date_on(day).isoformat()


def closed_of(text: str) -> int:
    """1 closed, 0 not. ValueError: says what the value is not."""
    known = _YES_OR_NO.get(text.lower())  # a spreadsheet writes TRUE
    if known is None:
        raise ValueError("is neither true nor false")
    return known


def name_problem(name: str) -> str | None:
    """What is wrong with what a store is to be called, if anything; empty: it has no name."""
    return _text_problem(name, LONGEST_NAME)


def tag_key_problem(key: str) -> str | None:
    """What is wrong with the key of a tag, if anything."""
    if not key or key != key.strip():
        return "is empty, or begins or ends with white space"
    if ":" in key:
        return "has a colon, which separates a key from its value where tags are asked for"
    return _text_problem(key, LONGEST_TAG)


def tag_value_problem(value: str) -> str | None:
    """What is wrong with the value of a tag, if anything; empty: there is no such tag."""
    return _text_problem(value, LONGEST_TAG)


def reason_problem(reason: str) -> str | None:
    """What is wrong with a reason, if anything."""
    return _text_problem(reason, LONGEST_REASON)


def whom_problem(store_id: str) -> str | None:
    """What is wrong with the store of an exclusion, if anything; * is all of them."""
    return None if store_id == "*" else store_id_problem(store_id)


def _text_problem(text: str, most: int) -> str | None:
    if len(text) > most:
        return f"has more than {most} characters"
    if "\0" in text:
        return "contains a NUL character"
    return None
