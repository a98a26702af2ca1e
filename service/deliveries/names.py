"""What delivered files are called: a loader finds them, and no two schedules share a name."""

import re
from datetime import UTC, datetime
from hashlib import sha256

_AS_IT_IS = re.compile(r"[A-Za-z0-9_-]{1,100}", re.ASCII)
_OTHERS = re.compile(r"[^A-Za-z0-9_]+", re.ASCII)
_LONGEST, _DIGITS = 80, 8


def folder_name(schedule: str) -> str:
    """The folder of a schedule's files, by its name.

    Letters of ASCII, digits, `-` and `_` stay; whatever else there is becomes `-`, and then some
    digits of a hash of the name follow, as another name may come to the same.
    """
    if _AS_IT_IS.fullmatch(schedule):
        return schedule
    readable = _OTHERS.sub("-", schedule).strip("-")[:_LONGEST] or "schedule"
    return f"{readable}-{sha256(schedule.encode()).hexdigest()[:_DIGITS]}"


def file_stem(scheduled_for: datetime | None, as_of: datetime) -> str:
    """What the files of a report are called, before the dot.

    Args:
        scheduled_for: the time of the plan, a whole minute; None: it was run by hand, and its name
            tells `as_of` to the millisecond, which is the name of no time of a plan
        as_of: of the report
    """
    if scheduled_for is not None:
        return f"{scheduled_for.astimezone(UTC):%Y-%m-%dT%H-%MZ}"
    in_utc = as_of.astimezone(UTC)
    return f"{in_utc:%Y-%m-%dT%H-%M-%S}-{in_utc.microsecond // 1000:03}Z"
