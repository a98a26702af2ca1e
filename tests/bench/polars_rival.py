"""The same report by Polars, as somebody who knows it well would write it.

Polars keeps nothing by itself: a load writes Parquet files, polls sorted by store and instant. All
stores lie one after the other on a single axis of whole microseconds, which makes joins ASOF joins
of two sorted columns, without groups, and every step over neighbours one pass over a column.

Where it differs from storewatch: as DuckDB does.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from service.feeds.made_up import FeedFiles

_HOUR = 3_600_000_000
_DAY = 24 * _HOUR
_REACH = 24 * _HOUR
_WEEK = 168 * _HOUR
#: From one store's stretch of the axis to the next's: so far that nothing speaks across.
_STRIDE = _WEEK + 4 * _REACH + 2 * _DAY
_WINDOWS = {"hour": _HOUR, "day": _DAY, "week": _WEEK}
_HUNDREDTH = {"hour": 600_000, "day": 36_000_000, "week": 36_000_000}


def load(feed: FeedFiles, folder: Path) -> None:
    """Load a feed into Parquet files."""
    polls = pl.read_csv(
        feed.polls, infer_schema=False, new_columns=["store_id", "status", "instant"]
    )
    hours = pl.read_csv(
        feed.business_hours, infer_schema=False, new_columns=["store_id", "day", "opens", "closes"]
    )
    zones = pl.read_csv(feed.timezones, infer_schema=False, new_columns=["store_id", "zone"])
    stores = (
        pl.concat([table.select("store_id") for table in (polls, hours, zones)])
        .unique()
        .sort("store_id")
        .with_row_index("store")
        .join(zones.unique("store_id", keep="last"), on="store_id", how="left")
        .with_columns(pl.col("zone").fill_null("America/Chicago"))
        .sort("store")
    )
    number = stores.select("store_id", "store")
    stores.write_parquet(folder / "stores.parquet")
    clock = [_clock(pl.col(column)).alias(column) for column in ("opens", "closes")]
    hours.join(number, on="store_id").select(
        "store", pl.col("day").cast(pl.Int8), *clock
    ).write_parquet(folder / "hours.parquet")
    polls.lazy().join(number.lazy(), on="store_id").select(
        "store",
        pl.col("instant")
        .str.strip_suffix(" UTC")
        .str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us")
        .dt.truncate("1ms"),
        active=pl.col("status") == "active",
    ).sort("store", "instant").collect().write_parquet(folder / "polls.parquet")


def _clock(text: pl.Expr) -> pl.Expr:
    """Microseconds since midnight."""
    parts = [text.str.slice(place, 2).cast(pl.Int64) for place in (0, 3, 6)]
    return ((parts[0] * 60 + parts[1]) * 60 + parts[2]) * 1_000_000


@contextmanager
def opened(folder: Path) -> Iterator[Callable[[Path], None]]:
    """A function that writes the report from the files of a load."""
    yield lambda out: _report(folder).write_csv(out, float_precision=2)


def _report(folder: Path) -> pl.DataFrame:
    stores = pl.read_parquet(folder / "stores.parquet")
    hours = pl.read_parquet(folder / "hours.parquet")
    polls = pl.scan_parquet(folder / "polls.parquet")
    newest = polls.select(pl.col("instant").max()).collect().item()
    as_of = (newest - datetime(1970, 1, 1)) // timedelta(microseconds=1)
    origin = as_of - _WEEK - _REACH
    spans = _spans(stores, hours, origin, as_of)

    instant = pl.col("instant").dt.epoch("us")
    observations = (
        polls.filter(instant.is_between(origin, as_of))
        .select(_place(instant, origin), "active")
        .set_sorted("position")
        .join_asof(spans.lazy(), left_on="position", right_on="opens")
        .filter(pl.col("position") < pl.col("closes"))
        .select("position", "active")
        .collect()
    )
    runs = _runs(observations)
    runs = runs.select(
        "active",
        (pl.col("low") + _REACH).floordiv(_STRIDE).cast(pl.UInt32).alias("store"),
        low=_open_time(runs["low"], spans),
        high=_open_time(runs["high"], spans),
    )
    store = pl.col("store").cast(pl.Int64)
    for name, length in _WINDOWS.items():
        edge = stores.select(store * _STRIDE + as_of - length - origin).to_series()
        stores = stores.with_columns(_open_time(edge, spans).alias(name))
    spoken = runs.join(stores, on="store").select(
        "store",
        "active",
        *(
            (pl.col("high") - pl.max_horizontal("low", name)).clip(0).alias(name)
            for name in _WINDOWS
        ),
    )
    totals = spoken.group_by("store").agg(
        pl.col(name).filter(pl.col("active") == active).sum().alias(f"{measure}_last_{name}")
        for measure, active in (("uptime", True), ("downtime", False))
        for name in _WINDOWS
    )
    return stores.join(totals, on="store", how="left", maintain_order="left").select(
        "store_id",
        *(
            (
                (pl.col(f"{measure}_last_{name}").fill_null(0) + _HUNDREDTH[name] // 2)
                // _HUNDREDTH[name]
                / 100
            ).alias(f"{measure}_last_{name}")
            for measure in ("uptime", "downtime")
            for name in _WINDOWS
        ),
    )


def _place(instant: pl.Expr, origin: int) -> pl.Expr:
    return (pl.col("store").cast(pl.Int64) * _STRIDE + (instant - origin)).alias("position")


def _spans(stores: pl.DataFrame, hours: pl.DataFrame, origin: int, as_of: int) -> pl.DataFrame:
    """Disjoint spans of business time on the axis, with the open time before each."""
    dates = range(origin // _DAY - 3, as_of // _DAY + 2)
    # 1970-01-01 was a Thursday.
    calendar = pl.DataFrame({"midnight": [date * _DAY for date in dates]}).with_columns(
        day=((pl.col("midnight") // _DAY + 3) % 7).cast(pl.Int8)
    )
    closes = pl.when(pl.col("closes") >= _DAY - 60_000_000).then(_DAY).otherwise(pl.col("closes"))
    local = (
        hours.with_columns(closes=closes)
        .with_columns(
            closes=pl.col("closes")
            + pl.when(pl.col("closes") <= pl.col("opens")).then(_DAY).otherwise(0)
        )
        .join(calendar, on="day")
        .join(stores.select("store", "zone"), on="store")
        .select(
            "store",
            "zone",
            opens=pl.col("midnight") + pl.col("opens"),
            closes=pl.col("midnight") + pl.col("closes"),
        )
    )
    wall = pl.concat(
        [local.select("zone", wall=pl.col(column)) for column in ("opens", "closes")]
    ).unique()
    utc = pl.concat(
        part.with_columns(
            utc=pl.col("wall")
            .cast(pl.Datetime("us"))
            .dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
            .dt.epoch("us")
        )
        for (zone,), part in wall.partition_by("zone", as_dict=True).items()
    )
    known = (
        local.join(utc, left_on=("zone", "opens"), right_on=("zone", "wall"))
        .rename({"utc": "opens_utc"})
        .join(utc, left_on=("zone", "closes"), right_on=("zone", "wall"))
        .select(
            "store",
            opens=pl.col("opens_utc").clip(origin),
            closes=pl.col("utc").clip(upper_bound=as_of),
        )
        .filter(pl.col("opens") < pl.col("closes"))
    )
    always = stores.join(hours, on="store", how="anti").select(
        "store", opens=pl.lit(origin, pl.Int64), closes=pl.lit(as_of, pl.Int64)
    )
    return (
        pl.concat([known, always])
        .select(
            _place(pl.col("opens"), origin).alias("opens"),
            _place(pl.col("closes"), origin).alias("closes"),
        )
        .sort("opens")
        .with_columns(
            opens=pl.max_horizontal("opens", pl.col("closes").cum_max().shift(1, fill_value=0))
        )
        .filter(pl.col("opens") < pl.col("closes"))
        .with_columns(length=pl.col("closes") - pl.col("opens"))
        .with_columns(open_before=pl.col("length").cum_sum() - pl.col("length"))
        .set_sorted("opens")
    )


def _runs(observations: pl.DataFrame) -> pl.DataFrame:
    """Stretches of the axis for which observations of one status speak."""
    position, active = pl.col("position"), pl.col("active")
    silence = position.diff() > 2 * _REACH
    change = active != active.shift(1)
    begins = (silence | change).fill_null(True)
    low = (
        pl.when(silence.fill_null(True))
        .then(position - _REACH)
        .otherwise((position.shift(1) + position) // 2)
    )
    edges = observations.with_columns(
        low=pl.when(begins).then(low), ends=begins.shift(-1, fill_value=True)
    ).with_columns(
        high=pl.when(pl.col("ends")).then(
            pl.when(silence.shift(-1).fill_null(True))
            .then(position + _REACH)
            .otherwise((position + position.shift(-1)) // 2)
        )
    )
    return (
        edges.filter(begins)
        .select("active", "low")
        .hstack(edges.filter(pl.col("ends")).select("high"))
    )


def _open_time(position: pl.Series, spans: pl.DataFrame) -> pl.Series:
    """Open time before each position, over all stores up to there."""
    asked = pl.DataFrame({"asked": position}).with_row_index("row").sort("asked")
    found = asked.join_asof(spans, left_on="asked", right_on="opens").sort("row")
    return found.select(
        (pl.col("open_before") + pl.min_horizontal("asked", "closes") - pl.col("opens")).fill_null(
            0
        )
    ).to_series()
