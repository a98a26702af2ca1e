"""Plain rows of polls, as bytes → numbers, many rows at a time: no Python code runs once per row.

Rows are plain if they are ASCII without quotes, all as wide as the header, with instants in one
form. A block with anything else in it, or anything wrong, is left to `feed_rows`, which reads row
by row and finds the faults. Plain rows mean the same to both.

Measured on 900,000 polls, one core: 0.26 s here. Where only ids are not plain (quoted, not ASCII or
long), `feed_rows` takes 0.6 s to 1.2 s with `plain_instants`, and 2.5 s to 3.3 s without.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from compute.axis import DAY_MS, Ints

Bytes = npt.NDArray[np.uint8]
EightBytes = npt.NDArray[np.uint64]

#: Longer ids are not plain, because this many bytes are looked at in every row.
_LONGEST_ID = 64
_PADDING = bytes(_LONGEST_ID)  # may be read after the last field
_FORBIDDEN = (b'"', b"\r", b"\0")

_ACTIVE = int.from_bytes(b"active", "little")
_INACTIVE = int.from_bytes(b"inactive", "little")
_FIRST_BYTES = np.array([(1 << 8 * size) - 1 for size in range(9)], dtype=np.uint64)

_ENDINGS = (b" UTC", b"Z", b"+00:00")  # or none
_TO_THE_SECOND = len("YYYY-MM-DD hh:mm:ss")
_TO_THE_MICROSECOND = len("YYYY-MM-DD hh:mm:ss.ffffff")
_DIGITS = [index for index, sign in enumerate("0000-00-00 00:00:00.000000") if sign == "0"]
#: Of each month from 1970 to 9900, days since 1970-01-01: to compute them takes four times as long.
_FIRST_DAY = np.arange("1970-01", "9900-02", dtype="M8[M]").astype("M8[D]").astype(np.int32)


def plain_polls(
    block: bytes, width: int, indexes: tuple[int, ...], latest: int
) -> tuple[list[str], Ints, Ints] | None:
    """Polls of whole rows of text.

    Args:
        block: the rows
        width: fields in a row
        indexes: of the store's id, the status and the instant in a row
        latest: the latest instant that a poll may have, milliseconds since 1970-01-01 UTC

    Returns:
        the distinct store ids, which may be ones that no store can have; int64[rows], index of each
        row's id among them; int64[rows], `poll`s (see `compute.polls`). None if a
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
    if not line_end[:, -1].all() or np.count_nonzero(line_end) > len(line_end):
        return None
    start = np.append(0, ends[:-1] + 1).reshape(-1, width)
    stores, status, instant = ((start[:, index], end[:, index]) for index in indexes)
    named = _distinct_ids(text, *stores)
    active = _active(text, *status)
    instants = _instants(text, *instant)
    if named is None or active is None or instants is None or instants.max() > latest:
        return None
    return *named, instants << 1 | active


def plain_instants(texts: Sequence[str]) -> Ints | None:
    """Instants in a form that `plain_polls` takes, all in the same one, as separate texts.

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


def _read(text: bytes, start: Ints, dtype: str) -> npt.NDArray[Any]:
    """One element of a dtype at each start, wherever it lies."""
    size = np.dtype(dtype).itemsize
    everywhere = np.ndarray(len(text) - size + 1, dtype=dtype, buffer=text, strides=(1,))
    return everywhere[start]


def _distinct_ids(text: bytes, start: Ints, end: Ints) -> tuple[list[str], Ints] | None:
    size = end - start
    shortest, longest = int(size.min()), int(size.max())
    if not 0 < shortest <= longest <= _LONGEST_ID:
        return None
    width = -(-longest // 8)
    pieces = _read(text, start, f"S{8 * width}").view("<u8").reshape(-1, width).T.copy()
    mixed = np.zeros(len(size), dtype=np.uint64)
    for index, piece in enumerate(pieces):
        if shortest < 8 * index + 8:
            piece &= _FIRST_BYTES[np.clip(size - 8 * index, 0, 8)]
        mixed ^= piece
        mixed *= np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(32)
    # Ids are told apart by a hash, and then compared to be sure. The row takes the place of the
    # hash's last bits: sorting numbers is three times as fast as finding an order.
    in_row = np.uint64((1 << len(size).bit_length()) - 1)
    mixed = np.sort(mixed & ~in_row | np.arange(len(size), dtype=np.uint64))
    order = (mixed & in_row).astype(np.int64)
    new = np.append(True, mixed[1:] ^ mixed[:-1] > in_row)
    number = np.empty(len(order), dtype=np.int64)
    number[order] = np.cumsum(new) - 1
    one = order[new]
    if any((piece != piece[one][number]).any() for piece in pieces):
        return None
    return _texts(text, start[one], size[one]), number


def _texts(text: bytes, start: Ints, size: Ints) -> list[str]:
    longest = int(size.max())
    characters = _read(text, start, f"S{longest + 1}").view(np.uint8).reshape(-1, longest + 1)
    characters[np.arange(len(size)), size] = ord("\n")  # instead of the comma after the id
    joined = characters[np.arange(longest + 1) <= size[:, np.newaxis]].tobytes()
    return joined.decode("ascii").split("\n")[:-1]


def _active(text: bytes, start: Ints, end: Ints) -> npt.NDArray[np.bool_] | None:
    size = end - start
    piece = _read(text, start, "<u8")
    active = (size == len("active")) & (piece & _FIRST_BYTES[len("active")] == _ACTIVE)
    inactive = (size == len("inactive")) & (piece == _INACTIVE)
    return active if (active | inactive).all() else None


def _instants(text: bytes, start: Ints, end: Ints) -> Ints | None:
    """Milliseconds since 1970-01-01 UTC, cut, of `YYYY-MM-DD hh:mm:ss[.f…]` with one ending."""
    ending = next((one for one in _ENDINGS if text.endswith(one, 0, int(end[0]))), b"")
    size = end - start - len(ending)
    if size.min() < _TO_THE_SECOND or size.max() > _TO_THE_MICROSECOND:
        return None
    if ending:
        last = _read(text, end - 8, "<u8") >> np.uint64(64 - 8 * len(ending))
        if (last != int.from_bytes(ending, "little")).any():
            return None
    fixed = _read(text, start, f"S{_TO_THE_MICROSECOND}").view(np.uint8)
    sign: Bytes = np.ascontiguousarray(fixed.reshape(-1, _TO_THE_MICROSECOND).T)
    # A fraction may be short or missing: fill in its zeros.
    sign[_TO_THE_SECOND][size == _TO_THE_SECOND] = ord(".")
    for index in range(max(int(size.min()), _TO_THE_SECOND + 1), _TO_THE_MICROSECOND):
        sign[index][size <= index] = ord("0")
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
    for index in _DIGITS:
        well_formed &= digit[index] <= 9
    century, year, month, day, hour, minute, second = (
        digit[index] * np.uint8(10) + digit[index + 1] for index in (0, 2, 5, 8, 11, 14, 17)
    )
    # Earlier and later ones are left to `parse_instant`, which alone knows the range of instants.
    well_formed &= (century < 99) & ((century > 19) | (century == 19) & (year >= 70))
    well_formed &= (month >= 1) & (month <= 12) & (day >= 1)
    well_formed &= (hour < 24) & (minute < 60) & (second < 60)
    if not well_formed.all():
        return None
    months = (century.astype(np.int32) * 100 + year - 1970) * 12 + month - 1
    days = _FIRST_DAY[months] + day - 1
    if (days >= _FIRST_DAY[months + 1]).any():
        return None
    clock = (hour.astype(np.int32) * 60 + minute) * 60 + second
    clock = clock * 1000 + (digit[20].astype(np.int32) * 100 + digit[21] * np.uint8(10) + digit[22])
    milliseconds: Ints = days * np.int64(DAY_MS) + clock
    return milliseconds
