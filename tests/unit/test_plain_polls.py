"""The quick way through plain polls says what the way row by row says, or nothing at all."""

from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.feed_rows import parse_columns
from compute.feed_values import are_store_ids, store_id_problem
from compute.instants import LATEST_MS
from compute.plain_polls import plain_polls

INSTANTS = st.datetimes(
    # Of the years from 9900 on some are too late for a poll: the way row by row tells which.
    min_value=datetime(1970, 1, 1),
    max_value=datetime(9899, 12, 31),
)
IDS = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='",'), min_size=1
)
POLLS = st.lists(
    st.tuples(
        IDS.filter(lambda store_id: len(store_id) <= 64 and not store_id_problem(store_id))
        | st.sampled_from(["a", "b", "12345678"]),
        st.sampled_from(["active", "inactive"]),
        INSTANTS,
        st.sampled_from(["seconds", "milliseconds", "microseconds"]),
        st.sampled_from(" T"),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=30,
)


@given(st.lists(st.text(st.sampled_from("a7-.* \té_"), min_size=1, max_size=4)))
def test_ids_looked_at_together_are_judged_as_one_by_one(store_ids: list[str]) -> None:
    assert are_store_ids(store_ids) is not any(map(store_id_problem, store_ids))


@settings(deadline=None)
@given(
    polls=POLLS,
    suffix=st.sampled_from([" UTC", "Z", "+00:00"]),
    line_end=st.sampled_from(["\n", "\r\n"]),
)
def test_it_reads_plain_polls_as_the_way_row_by_row_does(
    polls: list[tuple[str, str, datetime, str, str, int]], suffix: str, line_end: str
) -> None:
    rows = [
        (store_id, status, _written(instant, precision, separator, zeros) + suffix)
        for store_id, status, instant, precision, separator, zeros in polls
    ]
    block = "".join(",".join(row) + line_end for row in rows).encode()
    found = plain_polls(block, 3, (0, 1, 2), LATEST_MS)
    assert found is not None
    store_ids, store, value = found
    slow = parse_columns("polls", list(zip(*rows, strict=True)))
    assert slow.fault_count == 0
    assert [store_ids[place] for place in store] == [row[0] for row in rows]
    assert value.tolist() == slow.value.tolist()
    assert sorted(store_ids) == sorted(set(store_ids))


def _written(instant: datetime, precision: str, separator: str, zeros: int) -> str:
    text = instant.isoformat(separator, precision)
    if precision != "microseconds" or not zeros:
        return text
    return text[:-zeros]  # a feed that leaves out the last digits


@pytest.mark.parametrize(
    "row",
    [
        "s,active,2023-02-29 00:00:00 UTC",
        "s,active,2023-00-10 00:00:00 UTC",
        "s,active,2023-13-10 00:00:00 UTC",
        "s,active,2023-01-00 00:00:00 UTC",
        "s,active,2023-01-10 24:00:00 UTC",
        "s,active,2023-01-10 23:60:00 UTC",
        "s,active,2023-01-10 23:59:60 UTC",
        "s,active,2023-01-10 23:59:59. UTC",
        "s,active,2023-01-10 23:59:5a UTC",
        "s,active,2023-01-10 23:59:59.12x456 UTC",
        "s,active,2023-01-10 23:59:59.1234567 UTC",
        "s,active,2023-01-10_23:59:59 UTC",
        "s,active,2023/01/10 23:59:59 UTC",
        "s,active,2023-01-10 23:59:59+01:00",
        "s,active,1969-12-31 23:59:59 UTC",
        "s,active,9999-01-01 00:00:00 UTC",
        "s,active,2023-01-10 UTC",
        "s,Active,2023-01-10 23:59:59 UTC",
        "s,activity,2023-01-10 23:59:59 UTC",
        "s,,2023-01-10 23:59:59 UTC",
        "s,active,",
        ",active,2023-01-10 23:59:59 UTC",
        f"{'s' * 65},active,2023-01-10 23:59:59 UTC",
        "é,active,2023-01-10 23:59:59 UTC",
        "s\0,active,2023-01-10 23:59:59 UTC",
        '"s",active,2023-01-10 23:59:59 UTC',
        "s,active",
        "s,active,2023-01-10 23:59:59 UTC,more",
        "",
        "s\r,active,2023-01-10 23:59:59 UTC",
    ],
)
@pytest.mark.parametrize("place", [0, 1])
def test_it_leaves_what_is_wrong_or_not_plain_to_the_way_row_by_row(row: str, place: int) -> None:
    rows = ["other,inactive,2023-01-10 12:00:00.25 UTC"]
    rows.insert(place, row)
    assert plain_polls("\n".join([*rows, ""]).encode(), 3, (0, 1, 2), LATEST_MS) is None


def test_it_finds_the_columns_wherever_they_stand() -> None:
    block = b"2023-01-10 12:00:00 UTC,x,store,inactive\n2023-01-10 12:00:01 UTC,,store,active"
    found = plain_polls(block, 4, (2, 3, 0), LATEST_MS)
    assert found is not None
    store_ids, store, value = found
    assert (store_ids, store.tolist()) == (["store"], [0, 0])
    noon = 1_673_352_000_000
    assert value.tolist() == [noon << 1, (noon + 1000) << 1 | 1]
