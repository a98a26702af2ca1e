"""Plain rows of polls, as bytes → numbers, many rows at a time: nothing here runs once per row.

Plain is ASCII without quotes, every row as wide as the header, with instants of one form. What is
not plain, and what is wrong, is left to the way that goes row by row and finds the faults. What is
plain means there what it means here.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from compute.axis import Ints

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]

#: Longer ids are not plain: as many bytes would be looked at in every row.
_LONGEST_ID = 64
_PADDING = bytes(_LONGEST_ID)  # what is read after the last field
_FORBIDDEN = (b'"', b"\r", b"\0")

_ACTIVE = int.from_bytes(b"active", "little")
_INACTIVE = int.from_bytes(b"inactive", "little")
_FIRST_BYTES = np.array([(1 << 8 * size) - 1 for size in range(9)], dtype=np.uint64)

_ENDINGS = {b"C": b" UTC", b"Z": b"Z"}  # by their last byte; else none
_TO_THE_SECOND = len("YYYY-MM-DD hh:mm:ss")
_TO_THE_MICROSECOND = len("YYYY-MM-DD hh:mm:ss.ffffff")
_DIGITS = [place for place, sign in enumerate("0000-00-00 00:00:00.000000") if sign == "0"]
_DAY_MS = 86_400_000


def plain_polls(
    block: bytes, width: int, places: tuple[int, ...], latest: int
) -> tuple[list[str], Ints, Ints] | None:
    """Polls of whole rows of text.

    Args:
        block: the rows
        width: fields in a row
        places: of the store's id, the status and the instant in a row
        latest: the latest instant that a poll may have, milliseconds since 1970-01-01 UTC

    Returns:
        the distinct store ids, which may be such as no store can have; int64[rows], place of each
        row's id among them; int64[rows], milliseconds since 1970-01-01 UTC << 1 | active. None if a
        row is not plain, or wrong
    """
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n")
    if not block.endswith(b"\n"):
        block += b"\n"
    if not block.isascii() or any(sign in block for sign in _FORBIDDEN):
        return None
    text = block + _PADDING
    characters = np.frombuffer(text, dtype=np.uint8, count=len(block))
    ends = np.flatnonzero((characters == ord(",")) | (characters == ord("\n")))
    if len(ends) % width:
        return None
    end = ends.reshape(-1, width)
    line_end = characters[end] == ord("\n")
    if not line_end[:, -1].all() or line_end[:, :-1].any():
        return None
    start = np.append(0, ends[:-1] + 1).reshape(-1, width)
    stores, status, instant = ((start[:, place], end[:, place]) for place in places)
    named = _distinct_ids(text, *stores)
    active = _active(text, *status)
    instants = _instants(text, *instant)
    if named is None or active is None or instants is None or instants.max() > latest:
        return None
    return *named, instants << 1 | active


def plain_instants(texts: Sequence[str]) -> Ints | None:
    """Instants that are apart already, of one form and such as `plain_polls` takes.

    Args:
        texts: one or more

    Returns:
        int64[texts], milliseconds since 1970-01-01 UTC, cut. None if one is not plain, or wrong
    """
    joined = "".join(texts)
    if not joined.isascii():
        return None
    size = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    end = np.cumsum(size)
    return _instants(joined.encode() + _PADDING, end - size, end)


def _read(text: bytes, start: Ints, dtype: str) -> npt.NDArray[np.generic]:
    """One element of a dtype at each start, wherever it lies."""
    size = np.dtype(dtype).itemsize
    everywhere = np.ndarray(len(text) - size + 1, dtype=dtype, buffer=text, strides=(1,))
    return everywhere[start]


def _distinct_ids(text: bytes, start: Ints, end: Ints) -> tuple[list[str], Ints] | None:
    size = end - start
    if not 0 < size.min() <= size.max() <= _LONGEST_ID:
        return None
    words: list[Words] = []
    mixed = np.zeros(len(size), dtype=np.uint64)
    for offset in range(0, int(size.max()), 8):
        word = _read(text, start + offset, "<u8") & _FIRST_BYTES[np.clip(size - offset, 0, 8)]
        mixed = (mixed ^ word) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(32)
        words.append(word)
    # Ids are told apart by one number each; whether that was right is then checked. `np.unique`
    # would want the first row of each, and for that a sort that takes six times as long.
    order = np.argsort(mixed)
    new = np.append(True, mixed[order[1:]] != mixed[order[:-1]])
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.cumsum(new) - 1
    one = order[new]
    if any((word != word[one][place]).any() for word in words):
        return None
    return _texts(text, start[one], size[one]), place


def _texts(text: bytes, start: Ints, size: Ints) -> list[str]:
    longest = int(size.max())
    characters = _read(text, start, f"S{longest + 1}").view(np.uint8).reshape(-1, longest + 1)
    characters[np.arange(len(size)), size] = ord("\n")  # instead of the comma after the id
    joined = characters[np.arange(longest + 1) <= size[:, np.newaxis]].tobytes()
    return joined.decode("ascii").split("\n")[:-1]


def _active(text: bytes, start: Ints, end: Ints) -> npt.NDArray[np.bool_] | None:
    size = end - start
    word = _read(text, start, "<u8")
    active = (size == len("active")) & (word & _FIRST_BYTES[len("active")] == _ACTIVE)
    inactive = (size == len("inactive")) & (word == _INACTIVE)
    return active if (active | inactive).all() else None


def _instants(text: bytes, start: Ints, end: Ints) -> Ints | None:
    """Milliseconds since 1970-01-01 UTC, cut, of `YYYY-MM-DD hh:mm:ss[.f…]` with one ending."""
    ending = _ENDINGS.get(text[end[0] - 1 : end[0]], b"")
    size = end - start - len(ending)
    if size.min() < _TO_THE_SECOND or size.max() > _TO_THE_MICROSECOND:
        return None
    if ending and (_read(text, end - len(ending), f"S{len(ending)}") != ending).any():
        return None
    fixed = _read(text, start, f"S{_TO_THE_MICROSECOND}").view(np.uint8)
    sign: Bytes = np.ascontiguousarray(fixed.reshape(-1, _TO_THE_MICROSECOND).T)
    # A fraction may be short or left out: as if its zeros were there.
    sign[_TO_THE_SECOND][size == _TO_THE_SECOND] = ord(".")
    for place in range(_TO_THE_SECOND + 1, _TO_THE_MICROSECOND):
        sign[place][size <= place] = ord("0")
    well_formed = (
        (sign[4] == ord("-"))
        & (sign[7] == ord("-"))
        & ((sign[10] == ord(" ")) | (sign[10] == ord("T")))
        & (sign[13] == ord(":"))
        & (sign[16] == ord(":"))
        & (sign[19] == ord("."))
        & (size != _TO_THE_SECOND + 1)
    )
    digit = sign - np.uint8(ord("0"))  # what is below "0" wraps around, far above 9
    for place in _DIGITS:
        well_formed &= digit[place] <= 9
    century, year, month, day, hour, minute, second = (
        digit[place] * np.uint8(10) + digit[place + 1] for place in (0, 2, 5, 8, 11, 14, 17)
    )
    months = (century.astype(np.int64) * 100 + year - 1970) * 12 + month - 1
    first_day, next_month = (
        month.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
        for month in (months, months + 1)
    )
    days = first_day + day - 1
    well_formed &= (month >= 1) & (month <= 12) & (day >= 1) & (days < next_month)
    well_formed &= (hour < 24) & (minute < 60) & (second < 60)
    well_formed &= (months >= 0) & (century < 99)
    if not well_formed.all():
        return None
    fraction = digit[20].astype(np.int64) * 100 + digit[21] * np.uint8(10) + digit[22]
    clock = (hour.astype(np.int64) * 60 + minute) * 60 + second
    milliseconds: Ints = days * _DAY_MS + clock * 1000 + fraction
    return milliseconds
