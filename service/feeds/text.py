"""The text of a feed: bytes as they come, plain or packed (gzip, zstd) → blocks of whole rows.

Blocks end between rows even if quoted fields contain line ends. Every byte is looked at once,
however small the pieces are and however few rows they have. Work that takes long runs in a thread.
"""

import asyncio
import re
import sys
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Literal, NamedTuple, ParamSpec, Protocol, TypeVar

import numpy as np

from compute.feed_faults import Fault, FeedRefused

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

P = ParamSpec("P")
Result = TypeVar("Result")

#: Bytes of text that one worker parses at a time.
BLOCK = 4 << 20
#: Empty lines that may follow in a row. Without a bound, a small body that unpacks to nothing else
#: would keep the workers busy for minutes; no program writes as many by accident.
MOST_EMPTY_LINES = 1_000_000

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
#: Packed bytes that are unpacked at a time: before a fault, at most what they unpack to is lost.
_PACKED = 16 << 10
#: Work on fewer bytes takes less time than handing it to a thread.
_WORTH_A_THREAD = 64 << 10
#: The largest window of a zstd frame, which RFC 9659 sets for HTTP. Without it a frame could ask
#: for gigabytes of memory, and would get them.
_ZSTD_WINDOW_LOG = 23

_GZIP = re.compile(rb"\x1f\x8b")
_ZSTD = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")
#: Files that are not text in UTF-8, by their first bytes, and what to do about them.
_NO_TEXT = (
    (_GZIP, "it is compressed twice: decompress it once"),
    (_ZSTD, "it is compressed twice: decompress it once"),
    (
        re.compile(rb"PK(\x03\x04|\x05\x06|\x07\x08)"),
        "it is a zip archive or an Excel workbook: unzip it, or save the sheet as CSV in UTF-8",
    ),
    (re.compile(rb"\xd0\xcf\x11\xe0"), "it is an old Excel workbook: save the sheet as CSV"),
    (
        re.compile(rb"\xff\xfe|\xfe\xff|\0|[^\0]\0"),
        "it is text in UTF-16 or UTF-32: save it in UTF-8",
    ),
    (
        re.compile(rb"BZh[1-9]"),
        "it is compressed with bzip2: decompress it, or use gzip or zstd instead",
    ),
    (
        re.compile(rb"\xfd7zXZ\0"),
        "it is compressed with xz: decompress it, or use gzip or zstd instead",
    ),
    (re.compile(rb"PAR1"), "it is a Parquet file: convert it to CSV in UTF-8"),
)
_LONGEST_MAGIC = 6


class TooLarge(Exception):  # noqa: N818
    """There are more bytes than are allowed."""


class Unreadable(Exception):  # noqa: N818
    """Bytes that are not text, or cannot be unpacked; the message says why, and what to do."""


class Block(NamedTuple):
    """Whole rows.

    Attributes:
        line: the physical line that it begins on, from 1
        text: UTF-8
    """

    line: int
    text: bytes


Form = Literal["csv", "ndjson"]


async def blocks(
    source: str, pieces: AsyncIterator[bytes], most: int | None = None, form: Form = "csv"
) -> AsyncIterator[Block]:
    """All rows, of CSV after the first line by itself.

    Args:
        source: the file, as faults name it
        pieces: its bytes, plain, gzip or zstd
        most: how many bytes are allowed, packed and unpacked; None: any number
        form: of the text; in NDJSON every line end ends a row

    Raises:
        FeedRefused: it is not the text of a feed, or cannot be read any further
        TooLarge: there are more bytes than are allowed
    """
    rows = _Rows(form)
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
    """Do some work on so many bytes without blocking the event loop for long."""
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
    """Text that comes in pieces and leaves in blocks.

    Args:
        form: of the text

    Attributes:
        size: bytes held
        lost: whether it is unclear where rows end from here on, so that reading on is useless
    """

    def __init__(self, form: Form) -> None:
        self.lost = False
        self.size = 0
        self._is_csv = form == "csv"
        # It never shrinks: memory that is given back comes back from the kernel page by page,
        # zeroed, which takes several times as long as to copy the text.
        self._held = bytearray()
        self._line = 1  # that the held text begins on
        self._header_end = 0  # 0: not seen yet
        self._end = 0  # where the last whole row that is held ends
        self._quoted = False  # whether the held text ends inside quotes
        self._line_ends = 0  # that follow on each other at the end of what was taken

    @property
    def line_reached(self) -> int:
        """The physical line that the text ends in."""
        return self._line + self._held.count(b"\n", 0, self.size)

    def add(self, piece: bytes) -> None:
        """Hold one more piece."""
        begin = 0
        if self._is_csv and not self._header_end:
            begin = piece.find(b"\n") + 1
            self._header_end = self.size + begin if begin else 0
            begin = begin or len(piece)
        if self._is_csv:
            end, self._quoted = _last_row(piece[begin:], self._quoted)
        else:
            end = piece.rfind(b"\n") + 1
        if end:
            self._end = self.size + begin + end
        self._held[self.size : self.size + len(piece)] = piece
        self.size += len(piece)

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
        # After a misplaced quote all line ends look quoted, up to the end. A block that ends at one
        # of them is enough for whatever parses its rows to find where the quote is.
        self.lost = True
        end = self._held.rfind(b"\n", 0, self.size) + 1
        if not end:
            raise _NoRows(self._line, f"no line ends within {self.size} bytes from here")
        return self._cut(end)

    def take_rest(self) -> Block:
        """All that is held: the text ends here."""
        return self._cut(self.size)

    def _cut(self, end: int) -> Block:
        text = bytes(memoryview(self._held)[:end])
        self._held[: self.size - end] = self._held[end : self.size]
        self.size -= end
        self._end = max(self._end - end, 0)
        line = self._line
        # Six times as fast as `bytes.count`, which finds one after the other.
        self._line += int(np.count_nonzero(np.frombuffer(text, dtype=np.uint8) == ord("\n")))
        self._look_for_rows(line, text)
        return Block(line, text.removeprefix(_BYTE_ORDER_MARK) if line == 1 else text)

    def _look_for_rows(self, line: int, text: bytes) -> None:
        """Check that not too many empty lines follow in a row."""
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
            problem = f"more than {MOST_EMPTY_LINES} empty lines follow in a row from here"
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
    # The sum may overflow, which does not change whether it is even.
    inside = (np.cumsum(sign == ord('"'), dtype=np.uint8) & 1).astype(bool) ^ quoted
    ends = (sign == ord("\n")) & ~inside
    end = len(text) - int(ends[::-1].argmax()) if ends.any() else 0
    return end, bool(inside[-1])


async def unpacked(pieces: AsyncIterator[bytes], most: int | None = None) -> AsyncIterator[bytes]:
    """The text, unpacked if its first bytes are those of gzip or zstd.

    Args:
        pieces: plain or packed
        most: how many bytes are allowed, packed and unpacked; None: any number

    Raises:
        TooLarge: there are more bytes than are allowed
        Unreadable: it is packed in another way, is not text, or cannot be unpacked
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
        """More text out of all bytes given so far, part by part; empty: there is no more.

        Raises:
            Unreadable: no more text can follow
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
        """Check that the bytes end where they should: there are no more.

        Raises:
            Unreadable: they end early
        """
        if not self._member.eof:
            raise self._unreadable("it ends early")

    def _unreadable(self, problem: str) -> Unreadable:
        if "too much memory" in problem:
            problem = "its window is larger than 8 MiB: compress it without --long and --ultra"
        return Unreadable(f"the {self._name} data cannot be read beyond this line: {problem}")
