"""Each option of `storewatch report` by itself, also for ids that are hard to write."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from compute.csv_rows import header
from service.feeds.made_up import FeedFiles
from tests.harness.feeds import ingest, read_stores, write_csv
from tests.harness.processes import storewatch
from tests.harness.reference import DAY, HOUR, MINUTE, Interpolation, Store, reference_csv_row

IDS = ("=1+1", "-7", "+7", "@home", "7", 'a "b", c', "\u00e9")
#: Monday noon in Chicago.
LAST = datetime(2024, 3, 11, 17, tzinfo=UTC)


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> FeedFiles:
    """Stores that are open by day or always, polled at their own pace, with gaps of hours."""
    folder = tmp_path_factory.mktemp("feed")
    polls: list[tuple[object, ...]] = []
    for number, store_id in enumerate(IDS):
        for count in range(60):
            when = LAST - timedelta(minutes=count * (47 + 61 * number))
            status = "inactive" if count % (number + 2) else "active"
            polls.append((store_id, status, f"{when:%Y-%m-%d %H:%M:%S} UTC"))
    hours: list[tuple[object, ...]] = [
        (store_id, day, "09:00:00", "17:30:00") for store_id in IDS[::2] for day in range(7)
    ]
    return FeedFiles(
        polls=write_csv(folder / "polls.csv", "store_id,status,timestamp_utc", polls),
        business_hours=write_csv(
            folder / "hours.csv", "store_id,day,start_time_local,end_time_local", hours
        ),
        timezones=write_csv(
            folder / "zones.csv", "store_id,timezone_str", [(IDS[0], "Asia/Kathmandu")]
        ),
    )


@pytest.fixture(scope="module")
def loaded(
    module_database_url: str, feed: FeedFiles, tmp_path_factory: pytest.TempPathFactory
) -> str:
    ingest(feed, database_url=module_database_url, home=tmp_path_factory.mktemp("home"))
    return module_database_url


@pytest.fixture(scope="module")
def plain(loaded: str, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The report that is asked with no option."""
    home = tmp_path_factory.mktemp("plain")
    return storewatch("report", database_url=loaded, home=home).stdout


def escaped(store: Store) -> Store:
    formula = store.store_id[0] in "=+-@"
    return replace(store, store_id=f"'{store.store_id}") if formula else store


AS_OF = round(LAST.timestamp() * 1000)


@pytest.mark.parametrize(
    ("arguments", "as_of", "interpolation", "max_gap", "unknown"),
    [
        ([], AS_OF, "nearest", DAY, False),
        (["--as-of", "2024-03-10T16:00:00-05:00"], AS_OF - 20 * HOUR, "nearest", DAY, False),
        (["--interpolation", "previous"], AS_OF, "previous", DAY, False),
        (["--max-gap", "1h10m"], AS_OF, "nearest", 70 * MINUTE, False),
        (["--unknown"], AS_OF, "nearest", DAY, True),
        (["--escape-formulas"], AS_OF, "nearest", DAY, False),
    ],
    ids=["none", "as-of", "interpolation", "max-gap", "unknown", "escape-formulas"],
)
def test_a_report_asked_with_one_option_is_that_of_the_reference(
    loaded: str,
    feed: FeedFiles,
    plain: bytes,
    tmp_path: Path,
    arguments: list[str],
    as_of: int,
    interpolation: Interpolation,
    max_gap: int,
    unknown: bool,
) -> None:
    done = storewatch("report", *arguments, database_url=loaded, home=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    rows = [
        reference_csv_row(
            escaped(store) if "--escape-formulas" in arguments else store,
            as_of,
            interpolation,
            max_gap,
            unknown,
        )
        for store in read_stores(feed)
    ]
    assert done.stdout.decode() == header(unknown).decode() + "".join(f"{row}\n" for row in rows)
    assert (done.stdout == plain) == (not arguments), "an option that changes nothing tests nothing"
