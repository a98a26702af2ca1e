"""Packed tags of stores → columns."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from compute.packed_rows import NO_TEXTS
from compute.store_tags import NO_VALUE, tag_columns
from tests.harness.kernel import packed_tags


def test_each_key_is_a_column() -> None:
    columns = tag_columns(
        packed_tags([{"brand": "fresh", "city": "Köln"}, {}, {"brand": "oak"}, {"brand": "fresh"}]),
        4,
    )
    assert columns.keys() == {"brand", "city"}
    assert columns["brand"].values == ("fresh", "oak")
    assert columns["brand"].index.tolist() == [0, NO_VALUE, 1, 0]
    assert columns["city"].values == ("Köln",)
    assert columns["city"].index.dtype == np.int32
    assert columns["city"].index.tolist() == [0, NO_VALUE, NO_VALUE, NO_VALUE]


def test_without_any_tag_there_is_no_column() -> None:
    assert tag_columns(NO_TEXTS, 3) == {}


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@given(st.lists(st.dictionaries(st.sampled_from(["brand", "city", 'ä"\\']), TEXTS, max_size=3)))
def test_columns_say_what_the_stores_have(tags: list[dict[str, str]]) -> None:
    columns = tag_columns(packed_tags(tags) if any(tags) else NO_TEXTS, len(tags))
    read: list[dict[str, str]] = [{} for _ in tags]
    for key, column in columns.items():
        assert len(set(column.values)) == len(column.values)
        for store, index in enumerate(column.index.tolist()):
            if index != NO_VALUE:
                read[store][key] = column.values[index]
    assert read == tags
