"""A poll means the same on a line of NDJSON, in an array of JSON and in CSV; so does a fault."""

import csv
import io
import json
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.feed_faults import FAULTS_SHOWN
from compute.feed_header import read_header
from compute.feed_rows import FeedRows, parse_columns, parse_csv
from compute.instants import parse_instant
from service.feeds.json_rows import array_rows, line_rows

MEMBERS = ("store_id", "status", "timestamp_utc")
LATEST = parse_instant("2030-01-01T00:00:00Z")
POLL = {"store_id": "s1", "status": "active", "timestamp_utc": "2023-01-22T12:09:39Z"}
GOOD = json.dumps(POLL)

TEXTS = st.text('s1é☃😀 \\"/,{}:\n\r\t\0', max_size=6)
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["s1", "s2", "s1", " s", "", ".", "*", "status", '"store_id"']) | TEXTS,
        st.sampled_from(["active", "inactive", "active", "Active", ""]) | TEXTS,
        st.sampled_from(
            ["2023-01-22T12:09:39Z", "2023-01-22 12:09:39.388884 UTC", "2023-01-22T12:09+01:00",
             "2031-01-01T00:00Z", "1969-01-01T00:00Z", "soon"]
        ) | TEXTS,
    ),
    min_size=1,
    max_size=6,
)  # fmt: skip
#: What programs that collect lines may add.
MORE = st.dictionaries(
    st.sampled_from(["host", "timestamp", "message", "Store_id", "tags"]),
    st.none() | st.booleans() | st.integers() | TEXTS
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.just({"store_id": "nested", "status": ["active"]}) | st.just([1, [2, {}]])
    | st.just(GOOD),
    max_size=3,
)  # fmt: skip


def said(rows: FeedRows) -> list[tuple[str, int]]:
    """What each row says: store and value."""
    return [
        (rows.store_ids[store], value)
        for store, value in zip(rows.store.tolist(), rows.value.tolist(), strict=True)
    ]


def faults(rows: FeedRows) -> list[tuple[int, str, str, str]]:
    assert len(rows.faults) == min(rows.fault_count, FAULTS_SHOWN)
    return [(fault.line, fault.column, fault.value, fault.problem) for fault in rows.faults]


def of_lines(*lines: str | bytes) -> FeedRows:
    text = [line.encode() if isinstance(line, str) else line for line in lines]
    return line_rows("", b"\n".join(text), 1, LATEST)


def as_csv(rows: Sequence[Sequence[str]]) -> FeedRows:
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    header = read_header("polls", "", ",".join(MEMBERS).encode())
    return parse_csv("polls", header, text.getvalue().encode(), 1, LATEST)


@settings(deadline=None)
@given(rows=ROWS, data=st.data())
def test_a_poll_means_the_same_on_a_line_in_an_array_and_in_csv(
    rows: list[tuple[str, str, str]], data: st.DataObject
) -> None:
    expected = parse_columns("polls", list(zip(*rows, strict=True)), LATEST)
    given_rows = [dict(zip(MEMBERS, row, strict=True)) for row in rows]
    more = data.draw(st.lists(MORE, min_size=len(rows), max_size=len(rows)))
    ascii_only, line_end = data.draw(st.booleans()), data.draw(st.sampled_from(["\n", "\r\n"]))

    def written(ends: Sequence[str]) -> bytes:
        """Members in any order, with others beside them."""
        lines = [
            json.dumps(
                dict(data.draw(st.permutations([*(row | others).items()]))), ensure_ascii=ascii_only
            )
            for row, others in zip(given_rows, more, strict=True)
        ]
        return "".join(line + end for line, end in zip(lines, ends, strict=True)).encode()

    forms = {
        "array": array_rows("polls", json.dumps(given_rows).encode(), LATEST),
        "lines": line_rows("", written([line_end] * len(rows)), 1, LATEST),
        "last": line_rows("", written([line_end] * (len(rows) - 1) + [""]), 1, LATEST),
    }
    for parsed in forms.values():
        assert faults(parsed) == faults(expected)
        if not expected.fault_count:
            assert said(parsed) == said(expected)
    # A line of CSV is not its row where fields hold line ends.
    assert [fault[1:] for fault in faults(as_csv(rows))] == [
        fault[1:] for fault in faults(expected)
    ]
    if not expected.fault_count:
        assert said(as_csv(rows)) == said(expected)


ODD: list[str | bytes] = [
    GOOD,
    GOOD + GOOD,
    f"{GOOD} {GOOD}",
    f"{GOOD}\r{GOOD}",
    f"{GOOD}\r",
    f" {GOOD}\t",
    "{",
    "}",
    '{"a":',
    GOOD[:-1],
    GOOD[1:],
    f'{{"more":{GOOD}',
    f'{GOOD[:-1]},"more":{{}}}}',
    '{"store_id":"s2","status":"inactive",',
    '"timestamp_utc":"2023-01-22T12:00Z"}',
    f"[{GOOD}]",
    f"{GOOD},",
    f'{GOOD[:-1]},"store_id":"s2"}}',
    f'{GOOD[:-1]},"st\\u006fre_id":"s2"}}',
    '{"st\\u006fre_id":"s2","status":"active","timestamp_utc":"2023-01-22T12:00Z"}',
    f'{GOOD[:-1]},"more":"store_id"}}',
    f'{GOOD[:-1]},"more":{{"status":1,"status":2}}}}',
    f'{GOOD[:-1]},"more":1,"more":2}}',
    f'{GOOD[:-1]},"more":{"1" * 5000}}}',
    b'{"more":"\xff","store_id":"s1","status":"active","timestamp_utc":"2023-01-22T12:00Z"}',
    "",
    " ",
    "\r",
]


@settings(deadline=None)
@given(lines=st.lists(st.sampled_from(ODD), min_size=1, max_size=6))
def test_a_line_means_the_same_alone_and_among_others(lines: list[str | bytes]) -> None:
    alone = [of_lines(line) for line in lines]
    whole = of_lines(*lines)
    wrong = [
        (line, *fault[1:]) for line, one in enumerate(alone, 1) for fault in faults(one)
    ]  # fmt: skip
    assert faults(whole) == wrong
    if not wrong:
        assert said(whole) == [row for one in alone for row in said(one)]


FINE = {0, 4, 5, 12, 19, 20, 21, 22, 23, 25, 26, 27}


def test_one_object_is_on_one_line() -> None:
    assert {place for place, line in enumerate(ODD) if not of_lines(line).fault_count} == FINE


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("nonsense", "it is not JSON: JSON is malformed: invalid character"),
        ('{"store_id": "s1",', "it is not JSON: Input data was truncated"),
        (GOOD + GOOD, "it is not JSON: JSON is malformed: trailing characters"),
        (f"[{GOOD}]", "Expected `object`, got `array`"),
        ("null", "Expected `object`, got `null`"),
        ('{"store_id": "s1", "status": "active"}', "missing required field `timestamp_utc`"),
        (GOOD.replace('"s1"', "17"), "column store_id, value '17': Expected `str`, got `int`"),
        (
            GOOD.replace('"active"', '{"up": true}'),
            "column status, value '{\"up\": true}': Expected `str`, got `object`",
        ),
        (GOOD.replace("active", "null"), "column status, value 'null': is neither active nor"),
        (GOOD.replace('"active"', "null"), "value 'null': Expected `str`, got `null`"),
        (GOOD.replace("s1", "a\\u0000b"), "value 'a\\x00b': a store id cannot contain a NUL"),
        (f'{GOOD[:-1]}, "status": "active"}}', "Object has the field `status` twice"),
        (b'{"store_id": "\xff"}', "bytes ff are not UTF-8"),
        (f'{GOOD[:-1]}, "more": "'.encode() + b'\xc3"}', "bytes c3 are not UTF-8"),
        (f'{GOOD[:-1]}, "more": {"[" * 9999}{"]" * 9999}}}', "its JSON is nested too deeply"),
        (GOOD.replace("s1", "\\ud800"), "it is not JSON: JSON is malformed"),
        (GOOD.replace("s1", "x" * 300), f"value '{'x' * 80}': a store id can have at most 255"),
        (GOOD.replace('"s1"', "1" * 300), f"value '{'1' * 80}': Expected `str`"),
    ],
)
def test_what_is_wrong_with_a_line_is_told_with_its_number_whatever_stands_beside_it(
    line: str | bytes, told: str
) -> None:
    line = line.encode() if isinstance(line, str) else line
    good = GOOD.encode()
    rows = line_rows("polls.ndjson", b"\n".join([good, b"", line, good, b""]), 5, LATEST)
    [fault] = rows.faults
    assert str(fault).startswith("polls.ndjson: line 7")
    assert told in str(fault)


def test_of_many_faults_the_first_are_told_in_the_order_of_lines_and_all_are_counted() -> None:
    bad = ["5", GOOD.replace("active", "up"), "[]", GOOD] * 100
    rows = of_lines(*bad)
    assert rows.fault_count == 300
    assert [fault.line for fault in rows.faults] == [line for line in range(1, 27) if line % 4]
