"""The exact totals of a report's stores as bytes, as they are kept beside its CSV.

A line that tells the version, then chunks, one for each batch of stores. All numbers are
little-endian. A chunk has, one after the other:

- how large it is: stores, windows, bytes of a total, then the bytes of the names of its zones, of
  the ids, of the targets, of the tags and of the names of stores
- the names of its zones; the ids
- of each store the bytes of its id (uint2), its zone (int2) and, where any store has one, the
  target that it is held to (int4, hundred-millionths, -1: none)
- where any store has tags: how many keys there are (uint2), and of each key the bytes of the key
  and of its values (uint2, uint4), the key, the values, and of each store which value (int2, -1:
  none)
- where any store has a name: of each store the bytes of its name (uint2), and the names
- of each window uptime, downtime, unknown and excluded of each store in half-milliseconds; four
  bytes each where every window of the report fits into them, as a week does, else eight

So all of one window lies together, and what is rarely asked for is not read. Version 2 lacks
targets, tags and names, and has uptime of all windows first, then downtime and so on; version 1 is
the same without excluded time, of which there was none.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from compute.axis import PER_MS, AnyInts, Ints
from compute.packed_rows import NO_TEXTS, PackedTexts
from compute.store_tags import NO_TAGS, NO_VALUE, TagColumn
from compute.targets import NO_TARGET
from compute.uptime import Totals

#: The first bytes of the file.
VERSION = b"storewatch totals 3\n"
_VERSION_1, _VERSION_2 = b"storewatch totals 1\n", b"storewatch totals 2\n"
_SIZE, _ZONE, _TARGET, _VALUE = map(np.dtype, ("<u2", "<i2", "<i4", "<i2"))
_SMALL, _LARGE = np.dtype("<i4"), np.dtype("<i8")
_KEYS, _KEY = struct.Struct("<H"), struct.Struct("<HI")
_MEASURES = 4
#: Between texts: PostgreSQL has no text with it.
NUL = b"\0"


class _Form(NamedTuple):
    """What differs between the versions; `sizes` of older ones end after those of the ids."""

    sizes: struct.Struct
    measures: int
    by_window: bool


_FORMS = {
    VERSION: _Form(struct.Struct("<IHHIIIII"), _MEASURES, by_window=True),
    _VERSION_2: _Form(struct.Struct("<IHHII"), _MEASURES, by_window=False),
    _VERSION_1: _Form(struct.Struct("<IHHII"), _MEASURES - 1, by_window=False),
}


def pack_totals(
    store_ids: bytes,
    id_size: Ints,
    zone: TagColumn,
    totals: Totals,
    longest: int,
    *,
    names: PackedTexts = NO_TEXTS,
    tags: Mapping[str, TagColumn] = NO_TAGS,
    target: Ints | None = None,
) -> bytes:
    """A chunk of the file.

    Args:
        store_ids: UTF-8 ids of all stores, joined
        id_size: int64[stores], bytes of each id
        zone: IANA name that each is computed in
        totals: int64[stores, windows] each
        longest: at least as long as each window of each store, milliseconds
        names: what the stores are called
        tags: of the stores, by their keys
        target: int64[stores], that each is held to, as `compute.targets` has them; None: none is
    """
    of_total = _SMALL if PER_MS * longest <= np.iinfo(_SMALL).max else _LARGE
    stores, windows = totals.up.shape
    zones = NUL.join(name.encode() for name in zone.values)
    measures = (totals.up, totals.down, totals.unknown, totals.excluded)
    held = target is not None and bool((target != NO_TARGET).any())
    packed_target = target.astype(_TARGET).tobytes() if held and target is not None else b""
    packed_tags = _packed_tags(tags)
    packed_names = names.size.astype(_SIZE).tobytes() + names.packed if names.packed else b""
    sizes = (zones, store_ids, packed_target, packed_tags, packed_names)
    return b"".join(
        [
            _FORMS[VERSION].sizes.pack(stores, windows, of_total.itemsize, *map(len, sizes)),
            zones,
            store_ids,
            id_size.astype(_SIZE).tobytes(),
            zone.index.astype(_ZONE).tobytes(),
            packed_target,
            packed_tags,
            packed_names,
            np.stack([part.T for part in measures], axis=1).astype(of_total).tobytes(),
        ]
    )


def _packed_tags(tags: Mapping[str, TagColumn]) -> bytes:
    if not tags:
        return b""
    packed = [_KEYS.pack(len(tags))]
    for key, column in sorted(tags.items()):
        name, values = key.encode(), NUL.join(value.encode() for value in column.values)
        packed += [_KEY.pack(len(name), len(values)), name, values]
        packed.append(column.index.astype(_VALUE).tobytes())
    return b"".join(packed)


#: Bytes of the file: how many from which on. It gives as many, or raises.
Read: TypeAlias = Callable[[int, int], bytes]


class Kept(Protocol):
    """What takes memory."""

    @property
    def nbytes(self) -> int:
        """Bytes of it."""


K = TypeVar("K", bound=Kept)


class Keep(Protocol):
    """Remembers what was read, by its name, and for how long it likes."""

    def __call__(self, name: str, read: Callable[[], K], /) -> K:
        """What has a name: it is read if it is not remembered."""


def _keep_nothing(name: str, read: Callable[[], K], /) -> K:
    return read()


class NotReadable(Exception):  # noqa: N818
    """Bytes that are not the totals of a report, or of a later version."""


@dataclass(frozen=True)
class Texts:
    """A text of each store.

    Attributes:
        joined: all of them in UTF-8, each with a NUL after it
        start: int64[stores + 1], where each begins, and the end of all
    """

    joined: bytes
    start: Ints

    def __len__(self) -> int:
        return len(self.start) - 1

    def __getitem__(self, store: int) -> bytes:
        return self.joined[int(self.start[store]) : int(self.start[store + 1]) - 1]

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return len(self.joined) + self.start.nbytes


class Parts(NamedTuple):
    """The parts of business time: int32 or int64[stores] each, half-milliseconds."""

    up: AnyInts
    down: AnyInts
    unknown: AnyInts
    excluded: AnyInts


class _Chunk(NamedTuple):
    """Where in the file a chunk has what.

    `first`: the index of its first store; `zones`: the numbers of its zones among those of all.
    """

    first: int
    stores: int
    windows: int
    of_total: npt.DTypeLike
    zones: npt.NDArray[np.int16]
    ids_at: int
    sizes_at: int
    targets_at: int
    tags_at: int
    names_at: int
    totals_at: int


class StoreTotals:
    """Stores of a report, in byte order of their ids; all of it is read when it is asked for.

    Args:
        read: gives bytes of the file
        size: bytes of the file
        keep: remembers columns; left out, each is read anew

    Attributes:
        zone_names: IANA names of the zones that the stores are computed in
        windows: how many there are

    Raises:
        NotReadable: it is no such file, or by a later version
    """

    def __init__(self, read: Read, size: int, keep: Keep = _keep_nothing) -> None:
        self._read, self._keep = read, keep
        form = _FORMS.get(read(0, len(VERSION)) if size >= len(VERSION) else b"")
        if form is None:
            raise NotReadable
        self._form = form
        try:
            self._open(size)
        except (struct.error, ValueError) as error:
            raise NotReadable from error

    def _open(self, size: int) -> None:
        self._chunks: list[_Chunk] = []
        numbers: dict[str, int] = {}
        position, first, form = len(VERSION), 0, self._form
        while position < size:
            sizes = form.sizes.unpack(self._within(position, form.sizes.size, size))
            stores, windows, of_total, of_zones, of_ids, *of_more = sizes
            of_target, of_tags, of_names = of_more or (0, 0, 0)
            position += form.sizes.size
            names = self._within(position, of_zones, size).decode().split(NUL.decode())
            zones = [numbers.setdefault(name, len(numbers)) for name in names]
            kind = _SMALL if of_total == _SMALL.itemsize else _LARGE
            ids_at = position + of_zones
            sizes_at = ids_at + of_ids
            targets_at = sizes_at + (_SIZE.itemsize + _ZONE.itemsize) * stores
            tags_at = targets_at + of_target
            names_at = tags_at + of_tags
            totals_at = names_at + of_names
            self._chunks.append(
                _Chunk(
                    *(first, stores, windows, kind, np.array(zones, dtype=np.int16)),
                    *(ids_at, sizes_at, targets_at, tags_at, names_at, totals_at),
                )
            )
            position = totals_at + form.measures * windows * stores * kind.itemsize
            first += stores
        if position != size:
            raise NotReadable
        self._first = np.array([chunk.first for chunk in self._chunks], dtype=np.int64)
        self._stores = first
        self.windows = self._chunks[0].windows if self._chunks else 0
        self.zone_names = tuple(numbers)

    def _within(self, start: int, length: int, size: int) -> bytes:
        if start + length > size:
            raise NotReadable
        return self._read(start, length)

    def __len__(self) -> int:
        return self._stores

    @property
    def ids(self) -> Texts:
        """Of all stores. Some are had for less: `ids_of`."""
        return self._keep("ids", self._all_ids)

    def _all_ids(self) -> Texts:
        read = [self._ids(chunk) for chunk in self._chunks]
        return _texts([_with_nul(text, size) for text, size in read], [size for _, size in read])

    def ids_of(self, indexes: Ints) -> list[str]:
        """The ids of some stores."""
        ids = [""] * len(indexes)
        for chunk, places, inner in self._by_chunk(indexes):
            _put(ids, places, inner, *self._ids(chunk))
        return ids

    @property
    def zone(self) -> npt.NDArray[np.int16]:
        """int16[stores], index into `zone_names`."""
        return self._keep("zone", self._all_zones)

    def _all_zones(self) -> npt.NDArray[np.int16]:
        found = np.empty(len(self), dtype=np.int16)
        for chunk in self._chunks:
            at = chunk.sizes_at + _SIZE.itemsize * chunk.stores
            read = self._read(at, _ZONE.itemsize * chunk.stores)
            found[chunk.first : chunk.first + chunk.stores] = chunk.zones[
                np.frombuffer(read, _ZONE)
            ]
        return found

    @property
    def target(self) -> npt.NDArray[np.int32]:
        """int32[stores], hundred-millionths, or -1: none."""
        return self._keep("target", self._all_targets)

    def _all_targets(self) -> npt.NDArray[np.int32]:
        found = np.full(len(self), NO_TARGET, dtype=_TARGET)
        for chunk in self._chunks:
            if read := self._read(chunk.targets_at, chunk.tags_at - chunk.targets_at):
                found[chunk.first : chunk.first + chunk.stores] = np.frombuffer(read, _TARGET)
        return found

    def holding(self, wanted: bytes) -> npt.NDArray[np.bool_]:
        """bool[stores]: whose id or name holds a text, in either case of A to Z.

        Chunk by chunk, which fits into the cache of a core; nothing of it is kept.
        """
        found = np.zeros(len(self), dtype=bool)
        for chunk in self._chunks:
            of_chunk = found[chunk.first : chunk.first + chunk.stores]
            for text, size in (self._ids(chunk), self._names(chunk)):
                of_chunk[_holding(text, size, wanted)] = True
        return found

    def window(self, number: int) -> Parts:
        """One window of all stores, by its number; -1: the last."""
        if not self._chunks:
            return Parts(*np.empty((_MEASURES, 0), dtype=_LARGE))
        number %= self.windows
        return Parts(*self._keep(f"window {number}", partial(self._window, number)))

    def _window(self, number: int) -> AnyInts:
        small = all(chunk.of_total == _SMALL for chunk in self._chunks)
        found = np.zeros((_MEASURES, len(self)), dtype=_SMALL if small else _LARGE)
        for chunk in self._chunks:
            into = found[:, chunk.first : chunk.first + chunk.stores]
            kind = np.dtype(chunk.of_total)
            column = chunk.stores * kind.itemsize
            if self._form.by_window:
                read = self._read(chunk.totals_at + number * _MEASURES * column, _MEASURES * column)
                into[:] = np.frombuffer(read, kind).reshape(_MEASURES, chunk.stores)
                continue
            for measure in range(self._form.measures):
                at = chunk.totals_at + (measure * chunk.windows + number) * column
                into[measure] = np.frombuffer(self._read(at, column), kind)
        return found

    def tagged(self, key: str, value: str | None) -> npt.NDArray[np.bool_]:
        """bool[stores]: which have a tag; `value` None: which have no tag of the key."""
        name = f"tag {key}:{value or ''}"
        return self._keep(name, lambda: self._tagged(key, value))

    def _tagged(self, key: str, value: str | None) -> npt.NDArray[np.bool_]:
        found = np.full(len(self), value is None)
        for chunk in self._chunks:
            for one in self._tags(chunk):
                if one.key == key.encode():
                    values, wanted = one.values.split(NUL), NO_VALUE
                    if value is not None:
                        if value.encode() not in values:
                            break
                        wanted = values.index(value.encode())
                    found[chunk.first : chunk.first + chunk.stores] = one.which == wanted
                    break
        return found

    def totals(self, indexes: Ints) -> Totals:
        """int64[indexes, windows] each: all windows of some stores, which are read for them."""
        found = np.zeros((_MEASURES, len(indexes), self.windows), dtype=np.int64)
        for chunk, places, inner in self._by_chunk(indexes):
            found[:, places] = self._totals(chunk)[:, :, inner].transpose(0, 2, 1)
        return Totals(*found)

    def _totals(self, chunk: _Chunk) -> AnyInts:
        """Integers[measures, windows, stores]."""
        kind, measures = np.dtype(chunk.of_total), self._form.measures
        cells = measures * chunk.windows * chunk.stores
        read = np.frombuffer(self._read(chunk.totals_at, cells * kind.itemsize), kind)
        if self._form.by_window:
            return read.reshape(chunk.windows, measures, chunk.stores).transpose(1, 0, 2)
        found = np.zeros((_MEASURES, chunk.windows, chunk.stores), dtype=kind)
        found[:measures] = read.reshape(measures, chunk.windows, chunk.stores)
        return found

    def names_and_tags(self, indexes: Ints) -> tuple[list[str], list[dict[str, str]]]:
        """What some stores are called, or an empty text, and their tags, by their keys."""
        names, tags = [""] * len(indexes), [dict[str, str]() for _ in range(len(indexes))]
        for chunk, places, inner in self._by_chunk(indexes):
            if chunk.names_at < chunk.totals_at:
                _put(names, places, inner, *self._names(chunk))
            for one in self._tags(chunk):
                key, which = one.key.decode(), one.which[inner]
                has = which != NO_VALUE
                numbers = which[has].tolist()
                values = _some_of(one.values, set(numbers))
                for place, number in zip(places[has].tolist(), numbers, strict=True):
                    tags[place][key] = values[number]
        return names, tags

    def _ids(self, chunk: _Chunk) -> tuple[bytes, npt.NDArray[np.uint16]]:
        of_ids = chunk.sizes_at - chunk.ids_at
        read = self._read(chunk.ids_at, of_ids + _SIZE.itemsize * chunk.stores)
        return read[:of_ids], np.frombuffer(read, _SIZE, chunk.stores, of_ids)

    def _names(self, chunk: _Chunk) -> tuple[bytes, npt.NDArray[np.uint16]]:
        read = self._read(chunk.names_at, chunk.totals_at - chunk.names_at)
        if not read:
            return b"", np.zeros(chunk.stores, dtype=_SIZE)
        return read[_SIZE.itemsize * chunk.stores :], np.frombuffer(read, _SIZE, chunk.stores)

    def _tags(self, chunk: _Chunk) -> Iterator["_PackedKey"]:
        read = self._read(chunk.tags_at, chunk.names_at - chunk.tags_at)
        if not read:
            return
        (keys,) = _KEYS.unpack_from(read)
        position = _KEYS.size
        for _ in range(keys):
            of_key, of_values = _KEY.unpack_from(read, position)
            values_at = position + _KEY.size + of_key
            index = np.frombuffer(read, _VALUE, chunk.stores, values_at + of_values)
            key = read[values_at - of_key : values_at]
            yield _PackedKey(key, read[values_at : values_at + of_values], index)
            position = values_at + of_values + index.nbytes

    def _by_chunk(self, indexes: Ints) -> Iterator[tuple[_Chunk, Ints, Ints]]:
        """Chunks that have some of the stores, the places of these, and their indexes within."""
        if not len(indexes):
            return
        of = np.searchsorted(self._first, indexes, side="right") - 1
        order = np.argsort(of, kind="stable")
        for places in np.split(order, np.flatnonzero(np.diff(of[order])) + 1):
            chunk = self._chunks[int(of[places[0]])]
            yield chunk, places, indexes[places] - chunk.first


class _PackedKey(NamedTuple):
    """The tags of one key of a chunk, as they lie in the file."""

    key: bytes
    values: bytes
    which: npt.NDArray[np.int16]


def _put(
    into: list[str], places: Ints, inner: Ints, joined: bytes, size: npt.NDArray[np.uint16]
) -> None:
    """Put some of the texts of a chunk to their places."""
    end = np.cumsum(size, dtype=np.int64)
    bounds = (end - size)[inner].tolist(), end[inner].tolist()
    for place, start, until in zip(places.tolist(), *bounds, strict=True):
        into[place] = joined[start:until].decode()


def _some_of(joined: bytes, numbers: Iterable[int]) -> dict[int, str]:
    """Some of the texts that a NUL separates, by their numbers."""
    nul = np.flatnonzero(np.frombuffer(joined, np.uint8) == 0)
    end = np.append(nul, len(joined))
    return {
        number: joined[int(end[number - 1]) + 1 if number else 0 : int(end[number])].decode()
        for number in numbers
    }


def _holding(joined: bytes, size: npt.NDArray[np.uint16], wanted: bytes) -> Ints:
    """Indexes of the texts that hold another one, in either case of A to Z; some several times."""
    letters = np.frombuffer(joined, dtype=np.uint8)
    positions = len(letters) - len(wanted) + 1
    if positions < 1:
        return np.empty(0, dtype=np.int64)
    # All positions at once while there are many, and then only those that are left.
    found = _are(letters[:positions], wanted[:1])
    if len(wanted) > 1:
        found &= _are(letters[1 : positions + 1], wanted[1:2])
    left = np.flatnonzero(found)
    for offset in range(2, len(wanted)):
        left = left[_are(letters[left + offset], wanted[offset : offset + 1])]
    if not len(left):
        return left
    end = np.cumsum(size, dtype=np.int64)
    text = np.searchsorted(end, left, side="right")
    within: Ints = text[left + len(wanted) <= end[text]]
    return within


def _are(letters: npt.NDArray[np.uint8], wanted: bytes) -> npt.NDArray[np.bool_]:
    """Which are a letter, in either case."""
    lower, upper = wanted.lower()[0], wanted.upper()[0]
    same: npt.NDArray[np.bool_] = letters == lower
    if upper != lower:
        same |= letters == upper
    return same


def _with_nul(joined: bytes, size: npt.NDArray[np.uint16]) -> bytes:
    """Texts with a NUL after each."""
    end = np.cumsum(size, dtype=np.int64)
    text = np.zeros(len(joined) + len(size), dtype=np.uint8)
    is_text = np.ones(len(text), dtype=bool)
    is_text[end + np.arange(len(size))] = False
    text[is_text] = np.frombuffer(joined, dtype=np.uint8)
    return text.tobytes()


def _texts(joined: Sequence[bytes], sizes: Sequence[npt.NDArray[np.uint16]]) -> Texts:
    size = np.concatenate([np.empty(0, dtype=np.int64), *sizes]).astype(np.int64)
    return Texts(b"".join(joined), np.concatenate([[0], np.cumsum(size + 1)]))
