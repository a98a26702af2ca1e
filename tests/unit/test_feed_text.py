"""Bytes, however they come, become blocks of whole rows; what is no text is named."""

import asyncio
import bz2
import gzip
import lzma
import sys
import zipfile
from collections.abc import AsyncIterator, Iterable
from io import BytesIO
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.feed_faults import FeedRefused
from service.feeds import text as feed_text
from service.feeds.text import Block, Form, TooLarge, blocks

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BLOCK = 64


async def some(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def read(pieces: Iterable[bytes], most: int | None = None, form: Form = "csv") -> list[Block]:
    async def run() -> list[Block]:
        return [block async for block in blocks("file", some(pieces), most, form)]

    return asyncio.run(run())


def cut(text: bytes, size: int) -> list[bytes]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def refusal(pieces: Iterable[bytes], form: Form = "csv") -> str:
    with pytest.raises(FeedRefused) as refused:
        read(pieces, form=form)
    [fault] = refused.value.faults
    return str(fault)


ROWS = st.lists(
    st.sampled_from(
        ['a,"b\n\nc",d\n', '"a ""quoted"" one"\r\n', "plain,row\n", "\n", '""\n', '"\n"\n']
    )
)


@settings(deadline=None)
@given(rows=ROWS, size=st.integers(1, 200), last=st.sampled_from(["", "no line end", '"\n"']))
def test_blocks_are_whole_rows_and_know_their_lines(rows: list[str], size: int, last: str) -> None:
    text = "header\n" + "".join(rows) + last
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(feed_text, "BLOCK", BLOCK)
        found = read(cut(text.encode(), size))
    assert b"".join(block.text for block in found) == text.encode()
    assert found[0] == (1, b"header\n")
    for before, block in pairwise(found):
        assert block.line == before.line + before.text.count(b"\n")
        assert before.text.count(b'"') % 2 == 0
        assert before.text.endswith(b"\n")
    assert all(len(block.text) < 2 * BLOCK + size for block in found)


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_a_quote_out_of_place_ends_the_blocks_with_one_that_shows_it(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_text, "BLOCK", BLOCK)
    text = b"header\n" + b"row\n" * 40 + b'12" pizza\n' + b"row\n" * 4000
    found = read(cut(text, size))
    assert found[-1].text.startswith(b'12" pizza\n')
    assert found[-1].text.endswith(b"row\n")
    assert len(b"".join(block.text for block in found)) <= len(text)


LINES = st.lists(st.sampled_from(['{"a":"\\""}\n', '{"a":1}\r\n', "\n", '"\n', "{\n"]))


@settings(deadline=None)
@given(rows=LINES, size=st.integers(1, 200), last=st.sampled_from(["", '{"no":"line end"}']))
def test_blocks_of_ndjson_are_whole_lines_also_where_quotes_are_odd(
    rows: list[str], size: int, last: str
) -> None:
    text = "\ufeff" + "".join(rows) + last
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(feed_text, "BLOCK", BLOCK)
        found = read(cut(text.encode(), size), form="ndjson")
    assert b"".join(block.text for block in found).decode() == text[1:]
    for before, block in pairwise(found):
        assert block.line == before.line + before.text.count(b"\n")
        assert before.text.endswith(b"\n")
    assert all(len(block.text) < 2 * BLOCK + size for block in found)


def test_ndjson_has_the_bounds_of_csv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_text, "BLOCK", BLOCK)
    monkeypatch.setattr(feed_text, "MOST_EMPTY_LINES", 100)
    told = refusal([b'{"a":1}\n', *[b"x" * 50] * 9], "ndjson")
    assert told.startswith("file: line 2: no line ends within ")
    assert read([b"\n" * 100, b'{"a":1}\n'], form="ndjson")
    told = "file: line 2: more than 100 empty lines follow in a row from here"
    assert refusal([b'{"a":1}\n', b"\r\n" * 101], "ndjson") == told
    with pytest.raises(TooLarge):
        read([gzip.compress(b'{"a":1}\n' * 100)], 799, "ndjson")
    cut_off = gzip.compress(b'{"a":1}\n' * 100)[:-4]
    assert refusal([cut_off], "ndjson").startswith("file: line 101: the gzip data cannot be read")


def test_a_line_without_an_end_is_refused_where_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_text, "BLOCK", BLOCK)
    assert refusal([b"x" * 50] * 9).startswith("file: line 1: no line ends within 150 bytes")
    rows = [b"header\nrow\n", *[b"x" * 50] * 9]
    assert refusal(rows).startswith("file: line 3: no line ends within ")


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("size", [5, 64, 1 << 20])
def test_as_many_empty_lines_as_there_may_be_are_not_refused_and_one_more_is(
    line_end: bytes, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_text, "BLOCK", BLOCK)
    monkeypatch.setattr(feed_text, "MOST_EMPTY_LINES", 100)
    begin = b"header\n" + b"row\n" * 20
    read(cut((begin + line_end * 100) * 3, size))
    told = "file: line 22: more than 100 empty lines follow in a row from here"
    assert refusal(cut(begin + line_end * 101 + begin, size)) == told
    assert refusal(cut(begin + line_end * 101, size)) == told


def test_a_body_of_line_ends_alone_is_refused_before_much_of_it_is_unpacked() -> None:
    taken = 0

    async def packed() -> AsyncIterator[bytes]:
        nonlocal taken
        for piece in cut(gzip.compress(b"header\n" + b"\n" * (64 << 20)), 4096):
            taken += 1
            yield piece

    async def run() -> None:
        async for _ in blocks("", packed()):
            pass

    with pytest.raises(FeedRefused, match="line 2: more than 1000000 empty lines"):
        asyncio.run(run())
    assert taken < 4


# How it is packed.

TEXT = b"header\n" + b"".join(b"row %d\n" % number for number in range(3000))
PACKED = {
    "gzip": gzip.compress(TEXT, mtime=0),
    "zstd": zstd.compress(TEXT),
    "gzip of members": b"".join(gzip.compress(part) for part in cut(TEXT, 1000)),
    "zstd of frames": b"".join(zstd.compress(part) for part in cut(TEXT, 1000)),
    "zstd with a frame to skip": b"\x50\x2a\x4d\x18\x04\0\0\0more" + zstd.compress(TEXT),
    "gzip of nothing and more": gzip.compress(b"") * 3 + gzip.compress(TEXT) + gzip.compress(b""),
}


@pytest.mark.parametrize("size", [11, 1 << 20])
@pytest.mark.parametrize("form", PACKED)
def test_packed_text_is_unpacked(form: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_text, "BLOCK", 1 << 12)
    found = read(cut(PACKED[form], size))
    assert b"".join(block.text for block in found) == TEXT
    assert max(len(block.text) for block in found) <= 3 << 12


@pytest.mark.parametrize("form", ["gzip", "zstd"])
def test_packed_data_that_end_early_or_are_broken_are_told_with_the_line_they_reach(
    form: str,
) -> None:
    told = "file: line 3002: the {} data cannot be read beyond this line: it ends early"
    cut_off = {"gzip": PACKED["gzip"][:-1], "zstd": PACKED["zstd"] + zstd.compress(TEXT)[:-9]}
    assert refusal([cut_off[form]]) == told.format(form)
    text = "".join(f"{number * 7919 % 1_000_003}\n" for number in range(200_000)).encode()
    packed = gzip.compress(text) if form == "gzip" else zstd.compress(text)
    broken = packed[: len(packed) // 2] + b"\xff" * 64 + packed[len(packed) // 2 + 64 :]
    told = refusal(cut(broken, 1 << 20))
    assert f"the {form} data cannot be read beyond this line: " in told
    line = int(told.split("line ")[1].split(":")[0])
    assert 40_000 < line < 160_000


def test_a_zstd_frame_that_asks_for_much_memory_is_refused_with_what_to_do() -> None:
    options: dict[int, int] = {zstd.CompressionParameter.window_log: 27}
    packer = zstd.ZstdCompressor(options=options)
    packed = packer.compress(TEXT) + packer.flush()
    assert refusal([packed]) == (
        "file: line 1: the zstd data cannot be read beyond this line: its window is larger than "
        "8 MiB: compress it without --long and --ultra"
    )


def _zip() -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("polls.csv", TEXT)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (_zip(), "it is a zip archive or an Excel workbook: unzip it, or save the sheet as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "it is an old Excel workbook"),
        ("header\n".encode("utf-16"), "it is text in UTF-16 or UTF-32: save it in UTF-8"),
        ("header\n".encode("utf-16-be"), "it is text in UTF-16 or UTF-32"),
        ("header\n".encode("utf-16-le"), "it is text in UTF-16 or UTF-32"),
        ("header\n".encode("utf-32"), "it is text in UTF-16 or UTF-32"),
        (bz2.compress(TEXT), "it is compressed with bzip2: decompress it, or use gzip or zstd"),
        (lzma.compress(TEXT), "it is compressed with xz: decompress it, or use gzip or zstd"),
        (b"PAR1\x15\x04\x15", "it is a Parquet file: convert it to CSV in UTF-8"),
        (gzip.compress(PACKED["zstd"], mtime=0), "it is compressed twice: decompress it once"),
        (zstd.compress(_zip()), "it is a zip archive"),
    ],
)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_what_is_no_text_is_named_with_what_to_do(data: bytes, told: str, size: int) -> None:
    assert refusal(cut(data, size)).startswith(f"file: line 1: {told}")


@pytest.mark.parametrize("form", ["gzip", "zstd"])
def test_more_bytes_than_are_taken_are_refused_packed_or_not(form: str) -> None:
    assert read([PACKED[form]], most=len(TEXT))
    for pieces, most in (([TEXT], len(TEXT) - 1), ([PACKED[form]], len(TEXT) - 1)):
        with pytest.raises(TooLarge):
            read(pieces, most)
    with pytest.raises(TooLarge):
        read([PACKED[form] * 3], most=len(PACKED[form]) * 3 - 1)


@pytest.mark.parametrize("size", [1, 1000, 1 << 20])
def test_every_byte_is_looked_at_once_also_where_no_row_ends(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_text, "BLOCK", 1 << 12)
    looked_at = 0
    last_row = feed_text._last_row

    def counted(text: bytes, quoted: bool) -> tuple[int, bool]:
        nonlocal looked_at
        looked_at += len(text)
        return last_row(text, quoted)

    monkeypatch.setattr(feed_text, "_last_row", counted)
    text = b"header\n" + b'a,"b\n"\n' * 2000 + b'"' + b"\n" * 8000
    read(cut(text, size))
    assert looked_at <= len(text)
