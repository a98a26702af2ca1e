"""Arrays as PostgreSQL sends and takes them: all values of a batch in one long one, and the rows of
its binary COPY. asyncpg's own way takes a Python object per value, and several times as long.
"""

from collections.abc import Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from compute.axis import AnyInts, Ints

#: How PostgreSQL's binary COPY begins and ends.
COPY_BEGIN, COPY_END = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"
_ARRAY_HEADER = 20  # bytes: dimensions, flags, element type, length, lower bound
#: Numbers of types, which are the same in every PostgreSQL.
_INT8, _INT4, _INT2, _TEXT = 20, 23, 21, 25
_SIZE = np.dtype(">i4")


def from_array_send(sent: bytes | None, element: str = ">i4") -> Ints:
    """An integer array as PostgreSQL's `array_send` writes it, without nulls; None is empty.

    Args:
        sent: a 20-byte header, then the length and the value of each element, big-endian
        element: ">i4" or ">i8"
    """
    if sent is None:
        return np.empty(0, dtype=np.int64)
    rows = np.frombuffer(sent, dtype=[("size", ">i4"), ("value", element)], offset=_ARRAY_HEADER)
    return rows["value"].astype(np.int64)


def indexes_of(stores: Ints, wanted: Ints) -> Ints:
    """Where each wanted number stands among some, each of which there is once."""
    order = np.argsort(stores)
    indexes: Ints = order[np.searchsorted(stores, wanted, sorter=order)]
    return indexes


def copied_row(*fields: bytes | None) -> bytes:
    """A row of a binary COPY; None is null."""
    sized = (
        b"\xff\xff\xff\xff" if field is None else len(field).to_bytes(4) + field for field in fields
    )
    return len(fields).to_bytes(2) + b"".join(sized)


def copied_rows(fields: Sequence[Sequence[bytes]]) -> bytes:
    """Rows of a binary COPY, column by column; each field with its size before it."""
    begin = [len(fields).to_bytes(2)] * len(fields[0])
    return b"".join(chain.from_iterable(zip(begin, *fields, strict=True)))


def int4_fields(values: AnyInts) -> list[bytes]:
    """An `integer` in each row, as `copied_rows` takes it."""
    fields = np.empty(len(values), dtype=[("size", _SIZE), ("value", ">i4")])
    fields["size"], fields["value"] = fields.dtype["value"].itemsize, values
    return _each(fields)


def int8_array_fields(values: AnyInts) -> list[bytes]:
    """A `bigint[]` of two dimensions in each row, as `copied_rows` takes it.

    Args:
        values: integers[rows, n, m]
    """
    rows, *shape = values.shape
    header = np.array([2, 0, _INT8, shape[0], 1, shape[1], 1], dtype=_SIZE)
    element = np.dtype([("size", _SIZE), ("value", ">i8")])
    fields = np.empty(
        rows, dtype=[("size", _SIZE), ("header", _SIZE, len(header)), ("value", element, shape)]
    )
    fields["size"] = fields.itemsize - _SIZE.itemsize
    fields["header"] = header
    fields["value"]["size"] = element["value"].itemsize
    fields["value"]["value"] = values
    return _each(fields)


def text_array_fields(texts: bytes, size: Ints) -> list[bytes]:
    """A `text[]` in each row, as `copied_rows` takes it.

    Args:
        texts: in UTF-8, joined
        size: int64[rows, n], bytes of each; n is not 0
    """
    elements = _with_sizes(texts, size.ravel())
    end = np.cumsum(size.sum(axis=1) + _SIZE.itemsize * size.shape[1])
    length = np.diff(end, prepend=0)
    begin = np.empty(len(size), dtype=[("size", _SIZE), ("header", _SIZE, 5)])
    begin["size"] = length + begin.dtype["header"].itemsize
    begin["header"] = (1, 0, _TEXT, size.shape[1], 1)
    bounds = zip(_each(begin), (end - length).tolist(), end.tolist(), strict=True)
    return [header + elements[first:until] for header, first, until in bounds]


def int8_array(values: AnyInts) -> bytes:
    """A `bigint[]`, as `array_recv` takes it."""
    return _int_array(values, ">i8", _INT8)


def int4_array(values: AnyInts) -> bytes:
    """An `integer[]`, as `array_recv` takes it."""
    return _int_array(values, ">i4", _INT4)


def int2_array(values: AnyInts) -> bytes:
    """A `smallint[]`, as `array_recv` takes it."""
    return _int_array(values, ">i2", _INT2)


def text_array(texts: bytes, size: Ints) -> bytes:
    """A `text[]`, as `array_recv` takes it.

    Args:
        texts: in UTF-8, joined
        size: int64[n], bytes of each
    """
    return _array(_TEXT, len(size), _with_sizes(texts, size))


def _int_array(values: AnyInts, element: str, number: int) -> bytes:
    rows = np.empty(len(values), dtype=[("size", _SIZE), ("value", element)])
    rows["size"] = rows.dtype["value"].itemsize
    rows["value"] = values
    return _array(number, len(values), rows.tobytes())


def _with_sizes(texts: bytes, size: Ints) -> bytes:
    """Texts, each with its size before it."""
    before = np.cumsum(size) - size + _SIZE.itemsize * np.arange(len(size))
    is_size = np.zeros(len(texts) + _SIZE.itemsize * len(size), dtype=bool)
    is_size[before[:, None] + np.arange(_SIZE.itemsize)] = True
    elements = np.empty(len(is_size), dtype=np.uint8)
    elements[is_size] = size.astype(_SIZE).view(np.uint8)
    elements[~is_size] = np.frombuffer(texts, dtype=np.uint8)
    return elements.tobytes()


def _each(rows: npt.NDArray[np.void]) -> list[bytes]:
    """The bytes of each."""
    each: list[bytes] = rows.view(f"V{rows.itemsize}").tolist()
    return each


def _array(element: int, count: int, elements: bytes) -> bytes:
    # One dimension, no nulls, the first element's number is 1.
    header = (1, 0, element, count, 1) if count else (0, 0, element)
    return b"".join(number.to_bytes(4) for number in header) + elements
