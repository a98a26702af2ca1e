"""A row of a feed means the same whatever its form, its neighbours and its place are."""

from collections.abc import Sequence
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.feed_faults import FAULTS_SHOWN, FeedRefused
from compute.feed_header import Feed, read_header
from compute.feed_rows import FeedRows, parse_columns, parse_csv
from compute.instants import parse_instant
from compute.packed_rows import EMPTY, NO_DATE

HEADERS: dict[Feed, str] = {
    "polls": "store_id,status,timestamp_utc",
    "business_hours": "store_id,day,start_time_local,end_time_local",
    "timezones": "store_id,timezone",
    "special_hours": "store_id,date,start_time_local,end_time_local,closed,reason",
    "exclusions": "store_id,from,to,reason",
    "stores": "store_id,name,target",
}
DATED_HEADER = f"{HEADERS['business_hours']},valid_from"
LATEST = parse_instant("2030-01-01T00:00:00Z")

# What no row holds where rows are told apart by commas and line ends alone.
PLAIN = st.text(st.characters(exclude_characters='",\r\n', exclude_categories=["Cs"]), max_size=8)
IDS = st.sampled_from(
    ["s", "12345678", "store-9", " s", "s\xa0", "\u2003s", "", ".", "..", "*", "...", "a\0b", "ü"]
) | PLAIN  # fmt: skip
DAYS = st.datetimes(datetime(1969, 12, 30), datetime(2031, 1, 1))
ODD_INSTANTS = [
    "2023-01-22 12:09:39. UTC",
    "2023-01-22 12:09:39:5",
    "2023-W04 12:00",
    "2023-01-22 12:09:39 -06:00 UTC",
    "2023-01-22 12:09:39Z\0",
    "2023-01-22 12:09:39.1234567Z",
    "2023-01-22 12:09:39-06",
    "2023-01-22t12:09z",
    "2261-01-01 00:00:00 UTC",
    "20230122T120939Z",
]
INSTANTS = (
    st.builds(
        lambda instant, separator, end: f"{instant.isoformat(separator)}{end}",
        DAYS,
        st.sampled_from(" T"),
        st.sampled_from([" UTC", "Z", "", "+01:00"]),
    )
    | st.sampled_from(ODD_INSTANTS)
    | PLAIN
)
ROWS: dict[Feed, st.SearchStrategy[tuple[str, ...]]] = {
    "polls": st.tuples(IDS, st.sampled_from(["active", "inactive", "Active", ""]), INSTANTS),
    "business_hours": st.tuples(
        IDS,
        st.sampled_from(["0", "6", "7", "", "Monday"]),
        st.sampled_from(["9:00", "09:00:30.5", "24:00", "9", ""]) | PLAIN,
        st.sampled_from(["17:00", "24:00", "24:01", "09:60"]) | PLAIN,
    ),
    "timezones": st.tuples(IDS, st.sampled_from(["Asia/Tokyo", "UTC", "utc", ""]) | PLAIN),
    "special_hours": st.tuples(
        IDS,
        st.sampled_from(["2024-12-25", "2024-02-30", "1969-12-31", "2024-1-1", "20241225"]),
        st.sampled_from(["", "9:00", "24:00", "x"]),
        st.sampled_from(["", "17:00", "24:00"]),
        st.sampled_from(["", "true", "TRUE", "false", "yes"]),
        st.sampled_from(["", "Christmas", "x" * 256]) | PLAIN,
    ),
    "exclusions": st.tuples(
        IDS, INSTANTS, INSTANTS, st.sampled_from(["", "power", "x" * 256]) | PLAIN
    ),
    "stores": st.tuples(
        IDS,
        st.sampled_from(["", "Oak", "x" * 256, "a\0"]) | PLAIN,
        st.sampled_from(["", "0.995", "99.5%", "101%", "0", "1"]),
    ),
}
FEEDS = st.sampled_from(list(HEADERS)).flatmap(
    lambda feed: st.tuples(st.just(feed), st.lists(ROWS[feed], min_size=1, max_size=3))
)


def said(rows: FeedRows) -> list[tuple[str, object]]:
    """What each row says: store and value."""
    values: list[object] = rows.value.tolist()
    if rows.names:
        values = [
            [*value[:-1], rows.names[value[-1]]] if isinstance(value, list) else rows.names[value]
            for value in rows.value.tolist()
        ]
    return [(rows.store_ids[place], value) for place, value in zip(rows.store, values, strict=True)]


def faults(rows: FeedRows) -> set[tuple[int, str, str, str]]:
    return {(fault.line, fault.column, fault.value, fault.problem) for fault in rows.faults}


def parsed(feed: Feed, lines: Sequence[str]) -> FeedRows:
    header = read_header(feed, "", HEADERS[feed].encode())
    return parse_csv(feed, header, "".join(lines).encode(), 1, LATEST)


def quoted(row: Sequence[str]) -> str:
    return ",".join(f'"{field}"' for field in row)


@settings(deadline=None)
@given(given_rows=FEEDS, line_end=st.sampled_from(["\n", "\r\n"]), data=st.data())
def test_a_row_means_the_same_alone_and_among_others_plain_and_quoted_and_as_json(
    given_rows: tuple[Feed, list[tuple[str, ...]]], line_end: str, data: st.DataObject
) -> None:
    feed, rows = given_rows
    alone = [parse_columns(feed, [[field] for field in row], LATEST) for row in rows]
    wrong = {
        (line, *fault[1:])
        for line, one in enumerate(alone, 1)
        for fault in faults(one)
    }  # fmt: skip
    written = {
        "plain": [",".join(row) + line_end for row in rows],
        "quoted": [quoted(row) + line_end for row in rows],
        "mixed": [
            (quoted(row) if data.draw(st.booleans()) else ",".join(row)) + line_end for row in rows
        ],
    }
    for lines in written.values():
        whole = parsed(feed, lines)
        assert faults(whole) == wrong
        if not wrong:
            assert said(whole) == [one for row in alone for one in said(row)]
        for line, one in zip(lines, alone, strict=True):
            by_itself = parsed(feed, [line])
            assert faults(by_itself) == faults(one)
            if not one.faults:
                assert said(by_itself) == said(one)


QUOTES = st.lists(
    st.sampled_from(
        ["s,active,2023-01-22 12:00:00 UTC", '"s",active,2023-01-22 12:00:00 UTC',
         '"a ""b""\nc",inactive,"2023-01-22 12:00:00 UTC"', '12" pizza,active,2023-01-22 12:00Z',
         's ""x"",active,2023-01-22 12:00Z', '"s"x,active,2023-01-22 12:00Z', "s,active",
         's, "active",2023-01-22 12:00Z', "s,act\rive,2023-01-22 12:00Z", ""]
    ),
    min_size=1,
    max_size=8,
)  # fmt: skip


@settings(deadline=None)
@given(rows=QUOTES)
def test_quotes_out_of_place_are_refused_by_the_line_of_their_row_whatever_stands_beside_it(
    rows: list[str],
) -> None:
    alone = [faults(parsed("polls", [f"{row}\n"])) for row in rows]
    bad = [row for row, found in zip(rows, alone, strict=True) if found]
    assert bad == [row for row in rows if row in BAD]
    expected, line = set(), 1
    for row, found in zip(rows, alone, strict=True):
        expected |= {(line, *fault[1:]) for fault in found}
        line += row.count("\n") + 1
    assert faults(parsed("polls", [f"{row}\n" for row in rows])) == expected


BAD = {
    '12" pizza,active,2023-01-22 12:00Z',
    's ""x"",active,2023-01-22 12:00Z',
    '"s"x,active,2023-01-22 12:00Z',
    's, "active",2023-01-22 12:00Z',
    "s,act\rive,2023-01-22 12:00Z",
    "s,active",
}


def test_a_quote_inside_a_field_is_told_with_what_to_do() -> None:
    [fault] = parsed(
        "polls", ['ok,active,2023-01-22 12:00Z\n12" pizza,active,2023-01-22 12:00Z\n']
    ).faults
    assert str(fault) == (
        "line 2: a quote is inside a field: put the field in quotes, and double each quote in "
        'it, as in "12"" pizza"'
    )


def test_a_field_of_no_interest_may_be_of_any_length_plain_or_beside_quotes() -> None:
    header = read_header("timezones", "", b"store_id,note,timezone_str")
    row = f"s,{'x' * 200_000},UTC\n"
    for text in (row, row + '"t",,UTC\n'):
        assert not parse_csv("timezones", header, text.encode(), 2).faults


def test_a_poll_up_to_the_latest_instant_is_taken_in_every_form() -> None:
    for form in ("s,active,{}\n", '"s",active,{}\n', "ü,active,{}\n"):
        assert not parsed("polls", [form.format("2030-01-01 00:00:00.000 UTC")]).faults
        [fault] = parsed("polls", [form.format("2030-01-01 00:00:00.001 UTC")]).faults
        assert str(fault) == (
            "line 1, column timestamp_utc, value '2030-01-01 00:00:00.001 UTC': is in the future: "
            "polls are accepted up to 2030-01-01 00:00 UTC"
        )


def test_of_a_block_full_of_faults_the_first_are_told_in_order_and_all_are_counted() -> None:
    # More rows than are looked at together, and what is wrong lies now here, now there.
    lines = ["s,active,soon\n", "s\n", "*,up,2023-01-22 12:00Z\n", "s,active,2023-01-22 12:00Z\n"]
    refused = parsed("polls", 6_000 * lines)
    assert refused.fault_count == 6_000 * 4
    told = [(fault.line, fault.column) for fault in refused.faults]
    assert len(told) == FAULTS_SHOWN
    every = [
        (4 * block + line, column)
        for block in range(FAULTS_SHOWN)
        for line, column in ((1, "timestamp_utc"), (2, ""), (3, "store_id"), (3, "status"))
    ]
    assert told == every[:FAULTS_SHOWN]
    late = parsed("polls", [*(20_000 * lines[3:]), *lines])
    assert [fault.line for fault in late.faults] == [20_001, 20_002, 20_003, 20_003]


def hours_said(*lines: str, header: str = DATED_HEADER) -> list[object]:
    read = read_header("business_hours", "", header.encode())
    rows = parse_csv("business_hours", read, "".join(f"{line}\n" for line in lines).encode(), 2)
    assert not rows.faults, rows.faults
    values: list[object] = rows.value.tolist()
    return values


def test_a_week_begins_on_a_date_or_with_time_itself_and_may_be_empty() -> None:
    nine_to_five = 9 * 3_600_000 << 32 | 17 * 3_600_000
    assert hours_said("s,0,9:00,17:00,1970-01-02", "s,0,9:00,17:00,", "s,,,,2024-01-01") == [
        [1, nine_to_five],
        [NO_DATE, nine_to_five],
        [19_723, EMPTY],
    ]
    assert hours_said("s,,,", header=HEADERS["business_hours"]) == [EMPTY]


def test_a_row_of_hours_is_either_empty_or_whole() -> None:
    read = read_header("business_hours", "", DATED_HEADER.encode())
    rows = parse_csv(
        "business_hours", read, b"s,,9:00,17:00,\ns,0,,17:00,\ns,0,9:00,17:00,soon\n", 2
    )
    assert [(fault.line, fault.column) for fault in rows.faults] == [
        (2, "day"), (3, "start_time_local"), (4, "valid_from"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("store_id,name,region,region", "the column region twice"),
        ("store_id,name,", "the tag '' is empty"),
        ("store_id,a:b", "the tag 'a:b' has a colon"),
        (f"store_id,{'x' * 256}", "has more than 255 characters"),
        ("store_id," + ",".join(f"t{tag}" for tag in range(51)), "at most 50 are allowed"),
        ("store,name", "has no column store_id"),
    ],
    ids=["twice", "no-name", "colon", "long", "many", "no-id"],
)
def test_a_column_of_stores_that_can_be_no_tag_is_refused(header: str, problem: str) -> None:
    with pytest.raises(FeedRefused, match=problem):
        read_header("stores", "", header.encode())


def test_columns_of_stores_become_tags_and_empty_cells_remove() -> None:
    header = read_header("stores", "", b"region,store_id,name")
    rows = parse_csv("stores", header, b"west,s,Oak\n,t,\n", 2)
    assert said(rows) == [
        ("s", ['{"name": "Oak", "tags": {"region": "west"}}']),
        ("t", ['{"name": null, "tags": {"region": null}}']),
    ]
    rows = parse_csv("stores", read_header("stores", "", b"store_id,region"), b"s,west\n", 2)
    assert said(rows) == [("s", ['{"tags": {"region": "west"}}'])]
