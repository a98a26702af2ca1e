"""One value of a feed, as text → a number, or what is wrong with it."""

import re

from compute.axis import DAY_MS
from compute.zones import zone_names

#: Characters.
LONGEST_STORE_ID = 255
#: PostgreSQL cannot store it in a text, so no store's id can have it.
NUL_IN_STORE_ID = "a store id cannot contain a NUL character"
_CLOCK = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d)(?:\.(\d+))?)?", re.ASCII)
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
