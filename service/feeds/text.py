"""The text of a feed: bytes as they come, plain or packed → blocks of whole rows.

Blocks end between rows also where quoted fields hold line ends, and every byte is looked at once,
however small the pieces are and however few rows are in them. What takes a while runs in a thread.
"""

import asyncio
import re
import sys
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple, ParamSpec, Protocol, TypeVar

import numpy as np

from compute.feed_rows import Fault, FeedRefused

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

P = ParamSpec("P")
Result = TypeVar("Result")

#: Bytes of text that one worker parses at a time.
BLOCK = 4 << 20
#: Empty lines that may follow on each other. Without a bound, a small body that unpacks to nothing
#: else would keep the workers busy for minutes; no program writes as many by accident.
MOST_EMPTY_LINES = 1_000_000

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
#: Packed bytes that are unpacked at a time: so much text at the most is lost before a fault.
_PACKED = 16 << 10
#: Work on fewer bytes than these takes less than the way to a thread.
_WORTH_A_THREAD = 64 << 10
#: Text goes back to no further than this in a zstd frame (RFC 9659 has it for HTTP): a frame may
#: ask for gigabytes, and would get them.
_ZSTD_WINDOW_LOG = 23

_GZIP = re.compile(rb"\x1f\x8b")
_ZSTD = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")
#: What is no text in UTF-8, by its first bytes, and what to do about it.
_NO_TEXT = (
    (_GZIP, "it is packed twice: unpack it once"),
    (_ZSTD, "it is packed twice: unpack it once"),
    (
        re.compile(rb"PK(\x03\x04|\x05\x06|\x07\x08)"),
        "it is a zip archive or an Excel workbook: unpack it, or save the sheet as CSV in UTF-8",
    ),
    (re.compile(rb"\xd0\xcf\x11\xe0"), "it is an old Excel workbook: save the sheet as CSV"),
    (
        re.compile(rb"\xff\xfe|\xfe\xff|\0|[^\0]\0"),
        "it is text in UTF-16 or UTF-32: save it in UTF-8",
    ),
    (re.compile(rb"BZh[1-9]"), "it is packed with bzip2: unpack it, or pack it with gzip or zstd"),
    (re.compile(rb"\xfd7zXZ\0"), "it is packed with xz: unpack it, or pack it with gzip or zstd"),
    (re.compile(rb"PAR1"), "it is a Parquet file: write it as CSV in UTF-8"),
)
_LONGEST_MAGIC = 6


class TooLarge(Exception):  # noqa: N818
    """There are more bytes than are taken."""


class Unreadable(Exception):  # noqa: N818
    """Bytes that are no text, or cannot be unpacked; the message tells what and what to do."""


class Block(NamedTuple):
    """Whole rows.

    Attributes:
        line: the physical line that it begins on, from 1
        text: UTF-8
    """

    line: int
    text: bytes


async def blocks(
    source: str, pieces: AsyncIterator[bytes], most: int | None = None
) -> AsyncIterator[Block]:
    """The first line by itself, then all rows.

    Args:
        source: the file, as faults name it
        pieces: its bytes, plain, gzip or zstd
        most: how many bytes are taken, packed and unpacked; None: any number

    Raises:
        FeedRefused: it is not the text of a feed, or cannot be read any further
        TooLarge: there are more bytes than are taken
    """
    rows = _Rows()
    try:
        async for piece in unpacked(pieces, most):
            await _away(len(piece), rows.add, piece)
            while rows.ready:
                yield await _away(rows.size, rows.take)
            if rows.lost:
                return
        if rows.size:
            yield await _away(rows.size, rows.take_rest)
    except Unreadable as error:
        fault = Fault(rows.line_reached, "", "", str(error), source)
        raise FeedRefused([fault], 1) from None
    except _NoRows as error:
        raise FeedRefused([Fault(error.line, "", "", error.problem, source)], 1) from None


async def _away(size: int, work: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
    """Do some work on so many bytes without holding up everybody else."""
    if size < _WORTH_A_THREAD:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)


class _NoRows(Exception):  # noqa: N818
    """There are no rows where there should be.

    Attributes:
        line: where that begins
        problem: what is there
    """

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(line, problem)
        self.line, self.problem = line, problem


class _Rows:
    """Text that comes in pieces, on the way to become blocks.

    Attributes:
        lost: whether no more rows can be told apart, so that reading on is of no use
    """

    def __init__(self) -> None:
        self.lost = False
        self._held = bytearray()
        self._line = 1  # that the held text begins on
        self._header_end = 0  # 0: not seen yet
        self._end = 0  # where the last whole row that is held ends
        self._quoted = False  # whether the held text ends inside quotes
        self._line_ends = 0  # that follow on each other at the end of what was taken

    @property
    def size(self) -> int:
        """Bytes held."""
        return len(self._held)

    @property
    def line_reached(self) -> int:
        """The physical line that the text ends in."""
        return self._line + self._held.count(b"\n")

    def add(self, piece: bytes) -> None:
        """Hold one more piece."""
        begin = 0
        if not self._header_end:
            begin = piece.find(b"\n") + 1
            self._header_end = self.size + begin if begin else 0
            begin = begin or len(piece)
        end, self._quoted = _last_row(piece[begin:], self._quoted)
        if end:
            self._end = self.size + begin + end
        self._held += piece

    @property
    def ready(self) -> bool:
        """Whether there is something to take."""
        if self.lost:
            return False
        header = self._line == 1 and self._header_end > 0
        return header or (self.size >= BLOCK and self._end > 0) or self.size > 2 * BLOCK

    def take(self) -> Block:
        """The header, or as many whole rows as there are.

        Raises:
            _NoRows: a line is too long, or too many of them are empty
        """
        if self._line == 1 and self._header_end:
            return self._cut(self._header_end)
        if self._end:
            return self._cut(self._end)
        # A quote out of place makes line ends look quoted, all to the end. The text up to one of
        # them shows to whoever reads its rows where that was.
        self.lost = True
        end = self._held.rfind(b"\n") + 1
        if not end:
            raise _NoRows(self._line, f"no line ends within {self.size} bytes from here")
        return self._cut(end)

    def take_rest(self) -> Block:
        """All that is held: the text ends here."""
        return self._cut(self.size)

    def _cut(self, end: int) -> Block:
        text = bytes(memoryview(self._held)[:end])
        del self._held[:end]
        self._end = max(self._end - end, 0)
        line = self._line
        # Six times as fast as `bytes.count`, which looks for one after the other.
        self._line += int(np.count_nonzero(np.frombuffer(text, dtype=np.uint8) == ord("\n")))
        self._look_for_rows(line, text)
        return Block(line, text.removeprefix(_BYTE_ORDER_MARK) if line == 1 else text)

    def _look_for_rows(self, line: int, text: bytes) -> None:
        """See to it that not too many line ends follow on each other."""
        lines = self._line - line
        if self._line_ends + lines <= MOST_EMPTY_LINES + 1:  # the first ends a row
            row_end = len(text.rstrip(b"\r\n"))
            before = 0 if row_end else self._line_ends
            self._line_ends = before + text.count(b"\n", row_end)
            return
        sign = np.frombuffer(text, dtype=np.uint8)
        line_end = sign == ord("\n")
        ends = np.cumsum(line_end)[~line_end & (sign != ord("\r"))]  # before each other character
        ends = np.concatenate([[-self._line_ends], ends, [lines]])
        together = np.diff(ends)
        longest = int(together.argmax())
        if together[longest] > MOST_EMPTY_LINES + 1:
            problem = f"more than {MOST_EMPTY_LINES} empty lines follow on each other from here"
            raise _NoRows(line + int(ends[longest]) + 1, problem)
        self._line_ends = int(together[-1])


def _last_row(text: bytes, quoted: bool) -> tuple[int, bool]:
    """Where the last whole row ends, 0 for none; and whether the text ends inside quotes.

    Args:
        text: any
        quoted: whether it begins inside quotes
    """
    if b'"' not in text:
        return (0 if quoted else text.rfind(b"\n") + 1), quoted
    sign = np.frombuffer(text, dtype=np.uint8)
    # The sum may run over: whether it is even does not suffer.
    inside = (np.cumsum(sign == ord('"'), dtype=np.uint8) & 1).astype(bool) ^ quoted
    ends = (sign == ord("\n")) & ~inside
    end = len(text) - int(ends[::-1].argmax()) if ends.any() else 0
    return end, bool(inside[-1])


async def unpacked(pieces: AsyncIterator[bytes], most: int | None = None) -> AsyncIterator[bytes]:
    """The text without gzip or zstd, which are told by their first bytes.

    Args:
        pieces: plain or packed
        most: how many bytes are taken, packed and unpacked; None: any number

    Raises:
        TooLarge: there are more bytes than are taken
        Unreadable: it is packed in another way, or is no text, or cannot be unpacked
    """
    begin, pieces = await _begin(_up_to(most, pieces))
    packed = {"gzip": (_GZIP, _Gunzip), "zstd": (_ZSTD, _unzstd)}
    for name, (magic, new) in packed.items():
        if magic.match(begin):
            begin, pieces = await _begin(_up_to(most, _unpack(_Unpacker(name, new), pieces)))
            break
    for magic, problem in _NO_TEXT:
        if magic.match(begin):
            raise Unreadable(problem)
    async for piece in pieces:
        yield piece


async def _up_to(most: int | None, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    size = 0
    async for piece in pieces:
        size += len(piece)
        if most is not None and size > most:
            raise TooLarge
        yield piece


async def _begin(pieces: AsyncIterator[bytes]) -> tuple[bytes, AsyncIterator[bytes]]:
    """The first bytes, and all of them."""
    begin = b""
    async for piece in pieces:
        begin += piece
        if len(begin) >= _LONGEST_MAGIC:
            break

    async def whole() -> AsyncIterator[bytes]:
        yield begin
        async for piece in pieces:
            yield piece

    return begin, whole()


async def _unpack(unpacker: "_Unpacker", pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for piece in pieces:
        text = await asyncio.to_thread(unpacker.unpack, piece)
        while text:
            yield text
            text = await asyncio.to_thread(unpacker.unpack)
    unpacker.end()


class _Decompressor(Protocol):
    """Unpacks one member of a file; as `compression.zstd` has it."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gunzip:
    """A member of gzip."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._member.eof

    @property
    def needs_input(self) -> bool:
        return not self._member.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._member.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._member.decompress(self._member.unconsumed_tail + data, max_length)


def _unzstd() -> _Decompressor:
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
    return zstd.ZstdDecompressor(options=options)


class _Unpacker:
    """Packed bytes → text, of any number of members, in parts of at most a block.

    Args:
        name: of the format, for the reader
        new: makes what unpacks a member
    """

    def __init__(self, name: str, new: Callable[[], _Decompressor]) -> None:
        self._name, self._new = name, new
        self._member = new()
        self._packed: deque[bytes] = deque()
        self._broken: Unreadable | None = None

    def unpack(self, packed: bytes = b"") -> bytes:
        """Text of all that was given so far, a part of it at a time; empty: that was all.

        Raises:
            Unreadable: no text follows any more
        """
        self._packed += (packed[at : at + _PACKED] for at in range(0, len(packed), _PACKED))
        text: list[bytes] = []
        room = BLOCK
        while room and not self._broken:
            given = b""
            if self._member.eof or self._member.needs_input:
                if not self._packed:
                    break
                given = self._packed.popleft()
            if self._member.eof:
                self._member = self._new()
            try:
                text.append(self._member.decompress(given, room))
            except (zlib.error, zstd.ZstdError) as error:
                self._broken = self._unreadable(str(error))
                break
            room -= len(text[-1])
            if self._member.unused_data:
                self._packed.appendleft(self._member.unused_data)
        if self._broken and not any(text):
            raise self._broken
        return b"".join(text)

    def end(self) -> None:
        """Nothing is given any more.

        Raises:
            Unreadable: there should be
        """
        if not self._member.eof:
            raise self._unreadable("it ends early")

    def _unreadable(self, problem: str) -> Unreadable:
        if "too much memory" in problem:
            problem = "its window is larger than 8 MiB: pack it without --long and --ultra"
        return Unreadable(f"the {self._name} data cannot be read beyond this line: {problem}")
