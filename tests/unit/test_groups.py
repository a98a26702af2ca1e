"""Groups, targets and error budgets: what the slow reference says, however stores are cut up."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compute import batch as kernel
from compute import groups as groups_of_stores
from compute.groups import (
    MOST_GROUPS,
    MOST_ROWS,
    MOST_WORST,
    Group,
    GroupParts,
    GroupsRefused,
    GroupSums,
    check_keys,
    store_parts,
)
from compute.report_rows import report_rows
from compute.roll_up import no_stores
from compute.store_tags import tag_columns, zone_column
from compute.targets import NO_TARGET, SCALE, in_force, judged, target_of, target_text
from compute.uptime import Totals
from tests.harness.kernel import batch_of
from tests.harness.reference import (
    WINDOWS,
    Parts,
    Store,
    Together,
    reference_together,
    reference_totals,
    shared,
)
from tests.harness.schedules import Question, questions

TARGETS = st.one_of(
    st.none(),
    st.sampled_from([Fraction(1), Fraction(1, 2), Fraction(995, 1000), Fraction(1, SCALE)]),
    st.integers(1, SCALE).map(lambda scaled: Fraction(scaled, SCALE)),
)
TAGS = st.dictionaries(
    st.sampled_from(["brand", "city"]), st.sampled_from(["a", "b", "ä", ","]), max_size=2
).map(lambda tags: tuple(tags.items()))
KEYS = st.lists(
    st.sampled_from(["brand", "city", "timezone", "country"]), min_size=1, max_size=3, unique=True
)
CUTS = st.lists(st.integers(0, 30), max_size=4)

GroupsTold = dict[tuple[str, ...], tuple[int, list[Together]]]


def cut(stores: Sequence[Store], cuts: Sequence[int]) -> list[Sequence[Store]]:
    places = sorted({0, len(stores), *(min(one, len(stores)) for one in cuts)})
    return [stores[begin:end] for begin, end in pairwise(places)]


def scaled(target: Fraction | None) -> int | None:
    return None if target is None else int(target * SCALE)


def told(groups: Sequence[Group]) -> GroupsTold:
    """Groups in the words of the reference, milliseconds."""

    def together(group: Group, window: int) -> Together:
        half = [part[window] for part in (group.up, group.down, group.unknown, group.excluded)]
        up, down, unknown, excluded = (Fraction(part, 2) for part in half)
        return Together(
            parts=(up, down, unknown, excluded),
            met=group.met[window],
            missed=group.missed[window],
            without=group.without[window],
            used=Fraction(group.used[window], 2),
            allowed=Fraction(group.allowed[window], 2 * SCALE),
            worst=[
                (one.store_id, Fraction(one.up, 2), Fraction(one.down, 2))
                for one in group.worst[window]
            ],
        )

    windows = range(len(groups[0].up)) if groups else []
    return {
        group.values: (group.stores, [together(group, window) for window in windows])
        for group in groups
    }


def expected(
    stores: Sequence[Store],
    keys: Sequence[str],
    target: Fraction | None,
    parts: Callable[[Store], Sequence[Parts]],
) -> GroupsTold:
    members: dict[tuple[str, ...], list[tuple[Store, Sequence[Parts]]]] = {}
    for store in stores:
        members.setdefault(shared(store, keys), []).append((store, parts(store)))
    windows = range(len(WINDOWS))
    of_groups = {
        values: [
            reference_together([(one, each[at]) for one, each in some], target) for at in windows
        ]
        for values, some in members.items()
    }
    for of_group in of_groups.values():
        for window in of_group:
            del window.worst[MOST_WORST:]
    return {values: (len(members[values]), of_groups[values]) for values in sorted(members)}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(questions(max_stores=6), st.data(), KEYS, TARGETS, CUTS)
def test_groups_equal_the_reference_exactly_however_the_stores_are_cut(
    question: Question,
    data: st.DataObject,
    keys: list[str],
    target: Fraction | None,
    cuts: list[int],
) -> None:
    stores = [
        replace(store, tags=data.draw(TAGS), target=data.draw(TARGETS)) for store in question.stores
    ]
    stores.sort(key=lambda store: store.store_id.encode())
    asked = kernel.Question(
        question.as_of,
        question.interpolation,
        question.max_gap,
        group_by=tuple(keys),
        target=scaled(target),
    )
    sums, together = GroupSums(len(keys), len(WINDOWS)), no_stores()
    for some in cut(stores, cuts):
        batch = batch_of(some, asked)
        rows = report_rows(batch, asked)
        sums.add(*rows.parts)
        together += rows.together
    found = [group for some in sums.columns() for group in some.groups()]

    def parts(store: Store) -> list[Parts]:
        of_windows = reference_totals(
            store, question.as_of, question.interpolation, question.max_gap
        )
        return list(of_windows.values())

    wanted = expected(stores, keys, target, parts)
    assert told(found) == wanted
    assert list(told(found)) == list(wanted)

    if target is None and all(store.target is None for store in stores):
        assert together.targets is None
        return
    assert together.targets is not None
    for window, all_together in enumerate(together.targets.tolist()):
        [(_, everybody)] = expected(stores, [], target, parts).values()
        met, missed, without, used, allowed, rest = all_together
        one = everybody[window]
        assert (met, missed, without) == (one.met, one.missed, one.without)
        assert Fraction(used, 2) == one.used
        assert Fraction(allowed * SCALE + rest, 2 * SCALE) == one.allowed


#: Half-milliseconds of 400 days, the longest window.
LONGEST = 400 * 86_400 * 2_000
AMOUNTS = st.one_of(st.just(0), st.integers(0, 3), st.integers(LONGEST // 2 - 5, LONGEST // 2))
WINDOW = st.tuples(AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS)
MANY = st.lists(
    st.tuples(TAGS, TARGETS, st.tuples(WINDOW, WINDOW, WINDOW)), min_size=1, max_size=30
)


@settings(max_examples=100, deadline=None)
@given(MANY, KEYS, TARGETS, CUTS, st.tuples(*[st.integers(1, 40)] * 3))
def test_sums_of_the_longest_windows_and_the_worst_of_many_stores_stay_exact(
    many: list[tuple[tuple[tuple[str, str], ...], Fraction | None, tuple[tuple[int, ...], ...]]],
    keys: list[str],
    target: Fraction | None,
    cuts: list[int],
    sizes: tuple[int, ...],
) -> None:
    stores = [
        Store(f"s{place:02}", tags=tags, target=own) for place, (tags, own, _) in enumerate(many)
    ]
    parts = {store.store_id: windows for store, (*_, windows) in zip(stores, many, strict=True)}
    with pytest.MonkeyPatch.context() as patch:
        names = ("_IDS_KEPT", "_ADDED_AT_ONCE", "_ROWS_AT_ONCE")
        for name, size in zip(names, sizes, strict=True):
            patch.setattr(groups_of_stores, name, size)
        sums = GroupSums(len(keys), len(WINDOWS))
        for some in cut(stores, cuts):
            values = np.array([parts[store.store_id] for store in some], dtype=np.int64)
            totals = Totals(*(values[..., part] for part in range(4)))
            batch = batch_of(some, kernel.Question(0, "nearest", 60_000))
            zone = zone_column(batch.zone, batch.zone_names)
            targets = in_force(batch.targets, len(some), scaled(target))
            reached = None
            if (targets != NO_TARGET).any():
                reached = judged(totals.up, totals.down, targets)
            tags = tag_columns(batch.tags, len(some))
            ids = batch.store_ids
            sums.add(
                store_parts(keys, tags, zone, totals, reached, store_ids=ids, id_size=batch.id_size)
            )
        found = [group for some in sums.columns() for group in some.groups()]

    def in_milliseconds(store: Store) -> list[Parts]:
        return [
            (Fraction(up, 2), Fraction(down, 2), Fraction(unknown, 2), Fraction(excluded, 2))
            for up, down, unknown, excluded in parts[store.store_id]
        ]

    assert told(found) == expected(stores, keys, target, in_milliseconds)


@pytest.mark.parametrize(
    ("windows", "groups", "words"),
    [(1, MOST_GROUPS + 1, "100,000 groups"), (100, MOST_ROWS // 100 + 1, "1,000,000 rows")],
    ids=["groups", "rows"],
)
def test_too_many_groups_are_refused_in_words(windows: int, groups: int, words: str) -> None:
    sums = GroupSums(1, windows)

    def add(first: int, last: int) -> None:
        count = last - first
        values = tuple(map(str, range(first, last)))
        none = np.zeros((4, windows, count), dtype=np.int32)
        sizes = np.ones(count, dtype=np.int64)
        sums.add(GroupParts([values], [np.arange(count)], none, b"s" * count, sizes))
        sums.add_up()

    add(0, groups - 1)
    add(groups - 3, groups - 1)
    with pytest.raises(GroupsRefused, match=words):
        add(groups - 1, groups)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ([], "names 0 tags"),
        (["a", "b", "c", "d"], "names 4 tags: 1 to 3 are allowed"),
        (["a", "a"], "names a tag twice"),
        (["a:b"], "'a:b', which has a colon"),
        ([""], "'', which is empty"),
    ],
    ids=["none", "four", "twice", "colon", "empty"],
)
def test_what_a_report_cannot_be_grouped_by_is_refused(keys: list[str], words: str) -> None:
    with pytest.raises(GroupsRefused, match=words):
        check_keys(keys)


@pytest.mark.parametrize(
    ("text", "target", "share"),
    [
        ("0.995", 99_500_000, "0.995"),
        ("99.5%", 99_500_000, "0.995"),
        ("99.999999%", 99_999_999, "0.99999999"),
        ("1", SCALE, "1"),
        ("100%", SCALE, "1"),
        ("0.50", SCALE // 2, "0.5"),
    ],
)
def test_a_target_is_a_share_or_a_percentage(text: str, target: int, share: str) -> None:
    assert target_of(text) == target
    assert target_text(target) == share


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0%",
        "1.01",
        "101%",
        "99.5",
        ".9",
        "0.999999999",
        "99.9999999%",
        "-1",
        "1e-1",
        "\u0660.\u0665",
    ],
)
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no target|has more than"):
        target_of(text)
