"""The same report by DuckDB, as somebody who knows it well would write it.

Stores are numbers, polls a narrow table, both in DuckDB's own file. Business time is a table of
spans with the open time before each, so that one ASOF join per lookup answers every question; only
where a run of one status begins or ends is anything looked up. Instants are whole microseconds, so
the midpoint of two polls, which are cut to milliseconds, is exact.

Where it differs from storewatch: a wall time that the clocks skip becomes another instant, two
polls of one millisecond are both kept, and a load replaces nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb

from compute.windows import Window, instants_of
from service.feeds.made_up import FeedFiles

_LOAD = """
create table hours as
select store_id, day::tinyint as day, opens::time as opens, closes::time as closes
from read_csv($hours, header = true, all_varchar = true,
              names = ['store_id', 'day', 'opens', 'closes']);

create temp table given_zone as
from read_csv($zones, header = true, all_varchar = true, names = ['store_id', 'zone']);

create temp table given_poll as
select store_id, status = 'active' as active, date_trunc('millisecond', instant) as instant
from read_csv($polls, header = true, auto_detect = false, delim = ',', quote = '"',
              columns = {'store_id': 'varchar', 'status': 'varchar', 'instant': 'timestamp'});

create table store as
with named as (
    select store_id from given_poll union select store_id from hours
    union select store_id from given_zone
)
select row_number() over (order by store_id)::integer as store, store_id,
       coalesce(zone, 'America/Chicago') as zone
from named left join given_zone using (store_id);

create table poll as
select store, instant, active from given_poll join store using (store_id);

checkpoint;
"""

# Several statements rather than one: so each join meets tables whose size is known. In one
# statement the planner joins the wall times with each other first, which takes ten times as long.
_RUNS = """
create or replace temp table local_span as
with clock as (
    select store, zone, day, epoch_us(date '1970-01-01' + opens) as opens,
           case when closes >= time '23:59' then 86400000000
                else epoch_us(date '1970-01-01' + closes) end as closes
    from hours join store using (store_id)
), date as (
    select epoch_us(midnight) as midnight, isodow(midnight) - 1 as day
    from unnest(generate_series(
        make_timestamp(getvariable('origin'))::date - 3,
        make_timestamp(getvariable('as_of'))::date + 1,
        interval 1 day)) as dates (midnight)
)
select store, zone, midnight + opens as opens,
       midnight + case when closes <= opens then closes + 86400000000 else closes end as closes
from clock join date using (day);

-- Few distinct pairs of zone and wall time: ask for the offset of each once.
create or replace temp table wall as
select zone, wall, epoch_us(timezone(zone, make_timestamp(wall))) as utc
from (select zone, opens as wall from local_span union select zone, closes from local_span);

create or replace temp table span as
with utc as materialized (
    select store, greatest(opening.utc, getvariable('origin')) as opens,
           least(closing.utc, getvariable('as_of')) as closes
    from local_span
    join wall as opening on opening.zone = local_span.zone and opening.wall = opens
    join wall as closing on closing.zone = local_span.zone and closing.wall = closes
), every_span as (
    from utc where opens < closes
    union all
    select store, getvariable('origin'), getvariable('as_of')
    from store where store_id not in (select store_id from hours)
), apart as (
    select store, closes, greatest(opens, max(closes) over (
        partition by store order by opens rows between unbounded preceding and 1 preceding
    )) as opens
    from every_span
)
select store, opens, closes,
       (sum(closes - opens) over (partition by store order by opens))::bigint - (closes - opens)
           as open_before
from apart where opens < closes;

create or replace temp table observation as
select poll.store, epoch_us(instant) as instant, active
from poll asof join span on poll.store = span.store and epoch_us(poll.instant) >= span.opens
where epoch_us(instant) < closes
  and epoch_us(instant) between getvariable('origin') and getvariable('as_of');

create or replace temp table run as
with neighbours as (
    select *,
           lag(instant) over in_order as earlier, lag(active) over in_order <> active as begins,
           lead(instant) over in_order as later, lead(active) over in_order <> active as ends
    from observation window in_order as (partition by store order by instant)
), edge as (
    select store, instant, active,
           case when earlier is null or instant - earlier > 2 * getvariable('reach')
                then instant - getvariable('reach')
                when begins then (earlier + instant) // 2 end as low,
           case when later is null or later - instant > 2 * getvariable('reach')
                then instant + getvariable('reach')
                when ends then (instant + later) // 2 end as high
    from neighbours
), paired as (
    select store, active, low,
           coalesce(high, lead(high) over (partition by store order by instant)) as high
    from edge where low is not null or high is not null
)
from paired where low is not null;

"""
_LAST_WEEK = """
set variable as_of = (select epoch_us(max(instant)) from poll);
set variable reach = 24 * 3600000000;
set variable origin = getvariable('as_of') - 168 * 3600000000 - getvariable('reach');
"""
_REPORT = """
copy (
    with begun as (
        select run.store, active, high,
               coalesce(open_before + least(low, closes) - opens, 0) as open_low
        from run asof left join span on run.store = span.store and run.low >= span.opens
    ), ended as (
        select begun.store, active, open_low,
               coalesce(open_before + least(high, closes) - opens, 0) as open_high
        from begun asof left join span on begun.store = span.store and begun.high >= span.opens
    ), edge as (
        select store, hours, getvariable('as_of') - hours * 3600000000 as instant
        from store, (values (1), (24), (168)) as windows (hours)
    ), looked_up as (
        select edge.store, hours,
               coalesce(open_before + least(instant, closes) - opens, 0) as open_time
        from edge asof left join span on edge.store = span.store and edge.instant >= span.opens
    ), base as (
        select store, any_value(open_time) filter (hours = 1) as hour,
               any_value(open_time) filter (hours = 24) as day,
               any_value(open_time) filter (hours = 168) as week
        from looked_up group by store
    ), spoken as (
        select store, active,
               greatest(open_high - greatest(open_low, hour), 0) as hour,
               greatest(open_high - greatest(open_low, day), 0) as day,
               greatest(open_high - greatest(open_low, week), 0) as week
        from ended join base using (store)
    ), total as (
        select store,
               sum(hour) filter (active) as up_hour, sum(day) filter (active) as up_day,
               sum(week) filter (active) as up_week, sum(hour) filter (not active) as down_hour,
               sum(day) filter (not active) as down_day, sum(week) filter (not active) as down_week
        from spoken group by store
    )
    -- Whole hundredths of a minute or an hour, half away from zero, before anything is a fraction.
    select store_id,
           ((coalesce(up_hour, 0) + 300000) // 600000 / 100)::decimal(9, 2)
               as uptime_last_hour,
           ((coalesce(up_day, 0) + 18000000) // 36000000 / 100)::decimal(9, 2)
               as uptime_last_day,
           ((coalesce(up_week, 0) + 18000000) // 36000000 / 100)::decimal(9, 2)
               as uptime_last_week,
           ((coalesce(down_hour, 0) + 300000) // 600000 / 100)::decimal(9, 2)
               as downtime_last_hour,
           ((coalesce(down_day, 0) + 18000000) // 36000000 / 100)::decimal(9, 2)
               as downtime_last_day,
           ((coalesce(down_week, 0) + 18000000) // 36000000 / 100)::decimal(9, 2)
               as downtime_last_week
    from store left join total using (store) order by store_id
) to $out (header true);
"""

# The same over any windows, which end before the newest poll.
_PERIODS = """
set variable as_of = (select epoch_us(max(instant)) from poll);
set variable reach = 24 * 3600000000;
create or replace temp table period as from (values $windows) as given (number, low, high);
set variable origin = (select min(low) from period) - getvariable('reach');
"""
_WINDOWS = """
copy (
    with begun as (
        select run.store, active, low, high,
               coalesce(open_before + least(run.low, closes) - opens, 0) as open_low
        from run asof left join span on run.store = span.store and run.low >= span.opens
    ), ended as (
        select begun.store, active, low, high, open_low,
               coalesce(open_before + least(high, closes) - opens, 0) as open_high
        from begun asof left join span on begun.store = span.store and begun.high >= span.opens
    ), lower_edge as (
        select edge.store, number, low, high,
               coalesce(open_before + least(low, closes) - opens, 0) as open_from
        from (select store, number, low, high from store, period) as edge
        asof left join span on edge.store = span.store and edge.low >= span.opens
    ), edge as (
        select lower_edge.store, number, low, high, open_from,
               coalesce(open_before + least(high, closes) - opens, 0) as open_to
        from lower_edge
        asof left join span on lower_edge.store = span.store and lower_edge.high >= span.opens
    ), total as (
        select ended.store, number,
               sum(least(open_high, open_to) - greatest(open_low, open_from))
                   filter (active) as up,
               sum(least(open_high, open_to) - greatest(open_low, open_from))
                   filter (not active) as down
        from ended join edge on ended.store = edge.store
            and ended.low < edge.high and ended.high > edge.low
            and open_low < open_to and open_high > open_from
        group by ended.store, number
    )
    select store_id, $columns
    from store left join total using (store) group by store_id order by store_id
) to $out (header true);
"""
_COLUMN = """
((coalesce(any_value({part}) filter (number = {number}), 0) + 18000000) // 36000000 / 100)
    ::decimal(9, 2) as "{part}time_{name}"
"""


def load(feed: FeedFiles, folder: Path) -> None:
    """Load a feed into DuckDB's own file, on disk when it returns."""
    files = {"hours": feed.business_hours, "zones": feed.timezones, "polls": feed.polls}
    with duckdb.connect(folder / "storewatch.duckdb") as connection:
        _run(connection, [_LOAD], files)


@contextmanager
def opened(folder: Path) -> Iterator[Callable[[Path], None]]:
    """A function that writes the report, on a connection that stays open."""
    with _opened(folder, (_LAST_WEEK, _RUNS, _REPORT)) as report:
        yield report


@contextmanager
def opened_for_windows(
    folder: Path, windows: Sequence[Window], as_of: int
) -> Iterator[Callable[[Path], None]]:
    """The same as `opened`, of a report in hours over windows at fixed instants."""
    placed = [instants_of(window, "UTC", as_of) for window in windows]
    values = ", ".join(
        f"({number}, {low * 1000}, {high * 1000})" for number, (low, high) in enumerate(placed)
    )
    columns = ", ".join(
        _COLUMN.format(part=part, number=number, name=window.name)
        for part in ("up", "down")
        for number, window in enumerate(windows)
    )
    write = _WINDOWS.replace("$columns", columns)
    statements = (_PERIODS.replace("$windows", values), _RUNS, write)
    with _opened(folder, statements) as report:
        yield report


@contextmanager
def _opened(folder: Path, statements: Sequence[str]) -> Iterator[Callable[[Path], None]]:
    with duckdb.connect(folder / "storewatch.duckdb") as connection:
        connection.execute("set timezone = 'UTC'")
        # Without it, few rows on the left are joined by a loop over all on the right.
        connection.execute("set asof_loop_join_threshold = 0")
        yield lambda out: _run(connection, statements, {"out": out})


def _run(
    connection: duckdb.DuckDBPyConnection, statements: Sequence[str], files: dict[str, Path]
) -> None:
    for sql in statements:
        for name, file in files.items():
            sql = sql.replace(f"${name}", "'" + str(file).replace("'", "''") + "'")
        connection.execute(sql)
