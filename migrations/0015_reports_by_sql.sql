-- Finished reports as plain rows, for tools that speak SQL. docs/sql.md describes the three views: they are an interface.

alter table report
    add column window_names  text[],  -- as the CSV has them; null: not completed, or by an older version
    add column queryable     boolean not null default false,  -- whether its stores are kept here too
    add column run_queryable integer;  -- the run of whoever knew of this when they took the report

-- The stores of completed reports that are queryable, many in a row. They go when the report's files do.
create table report_store_batch (
    report     uuid not null references report (id) on delete cascade,
    batch      integer not null,  -- in the order of the report, from 0
    store_ids  text[] collate "C" not null,
    names      text[],               -- of each store, '' for none; null: none of them has one
    tags       text[],               -- JSON, key → value, '{}' for none; null: none of them has any
    zone       smallint[] not null,  -- into zone_names, from 1
    zone_names text[] not null,
    target     integer[],            -- as in the table store, -1 for none; null: none of them has one
    primary key (report, batch)
);
create table report_store_totals (
    report   uuid not null,
    batch    integer not null,
    place    integer not null,  -- of the window, from 1
    -- By store, half-milliseconds.
    up       bigint[] not null,
    down     bigint[] not null,
    unknown  bigint[] not null,
    excluded bigint[] not null,
    primary key (report, batch, place),
    foreign key (report, batch) references report_store_batch (report, batch) on delete cascade
);

-- Written twice as fast as with PostgreSQL's own compression, which a server without lz4 falls back on.
do $$
begin
    alter table report_store_batch
        alter column store_ids set compression lz4,
        alter column names set compression lz4,
        alter column tags set compression lz4;
    alter table report_store_totals
        alter column up set compression lz4,
        alter column down set compression lz4,
        alter column unknown set compression lz4,
        alter column excluded set compression lz4;
exception when feature_not_supported then
    null;
end
$$;

-- An older version beside this one lets reports expire too, and knows of none of these tables.
create function forget_rows_of_report() returns trigger language plpgsql as $$
begin
    delete from report_group where report = new.id;
    delete from report_store_batch where report = new.id;
    return null;
end
$$;
create trigger report_expired after update of state on report
    for each row
    when (new.state = 'expired' and old.state <> 'expired')
    execute function forget_rows_of_report();

-- And it would leave the stores out, the groups (0014) too.
drop trigger report_begun on report;
create trigger report_begun before update on report
    for each row
    when (
        new.run <> old.run and (
            (new.escape_formulas and new.run_escapes is distinct from new.run)
            or (
                (new.windows is not null or new.include_excluded or new.tags is not null)
                and new.run_windows is distinct from new.run
            )
            or (
                (new.group_by is not null or new.target is not null)
                and new.run_groups is distinct from new.run
            )
            or (new.queryable and new.run_queryable is distinct from new.run)
        )
    )
    execute function leave_report();

create index report_by_end on report (as_of);
create index report_by_finish on report (finished_at);
-- The newest report by groups of all stores: what /metrics shows.
create index report_by_group on report (group_by, as_of)
    where group_by is not null and state = 'completed' and named_stores is null and tags is null;

-- Seconds are half-milliseconds / 2000. Of reports over the default windows an older version kept no names of windows.

create view report_result as
select report.id as report_id,
       report.created_at,
       report.finished_at,
       report.as_of,
       report.interpolation,
       extract(epoch from report.max_gap)::double precision as max_gap_seconds,
       report.named_stores,
       report.tags as named_tags,
       report.group_by,
       place::integer as window_number,
       (coalesce(
           report.window_names,
           case when report.windows is null then array['last_hour', 'last_day', 'last_week'] end
       ))[place] as window_name,
       (report.summary ->> 'stores')::integer as stores,
       (report.summary -> 'down' ->> (place - 1)::integer)::integer as stores_down,
       up / 2000::double precision as uptime_seconds,
       down / 2000::double precision as downtime_seconds,
       unknown / 2000::double precision as unknown_seconds,
       excluded / 2000::double precision as excluded_seconds,
       (up + down + unknown + excluded) / 2000::double precision as business_seconds,
       up / nullif(up + down, 0)::double precision as availability,
       (judged ->> 0)::integer as stores_met,
       (judged ->> 1)::integer as stores_missed,
       (judged ->> 2)::integer as stores_unknown,
       (allowed / 2000)::double precision as budget_allowed_seconds,
       used / 2000::double precision as budget_used_seconds,
       ((allowed - used) / 2000)::double precision as budget_left_seconds
from report
cross join lateral jsonb_array_elements(report.summary -> 'sums') with ordinality as sums (parts, place)
cross join lateral (
    select (parts ->> 0)::bigint as up,
           (parts ->> 1)::bigint as down,
           (parts ->> 2)::bigint as unknown,
           coalesce((report.summary -> 'excluded' ->> (place - 1)::integer)::bigint, 0) as excluded
) as total
-- What targets say, as `judged` of compute/targets.py has it; null: no store has one.
cross join lateral (select report.summary -> 'targets' -> (place - 1)::integer as judged) as held
cross join lateral (
    select (judged ->> 3)::bigint as used,
           (judged ->> 4)::numeric + (judged ->> 5)::numeric / 100000000 as allowed
) as budget
where report.summary is not null;

create view report_group_result as
select report.id as report_id,
       report.finished_at,
       report.as_of,
       report.named_stores,
       report.tags as named_tags,
       report.group_by,
       grouped.tag_values,
       jsonb_object(report.group_by, grouped.tag_values) as tags,
       total.place::integer as window_number,
       (coalesce(
           report.window_names,
           case when report.windows is null then array['last_hour', 'last_day', 'last_week'] end
       ))[total.place] as window_name,
       grouped.stores,
       total.up / 2000::double precision as uptime_seconds,
       total.down / 2000::double precision as downtime_seconds,
       total.unknown / 2000::double precision as unknown_seconds,
       total.excluded / 2000::double precision as excluded_seconds,
       (total.up + total.down + total.unknown + total.excluded) / 2000::double precision
           as business_seconds,
       total.up / nullif(total.up + total.down, 0)::double precision as availability,
       case when has_targets then total.met end as stores_met,
       case when has_targets then total.missed end as stores_missed,
       case when has_targets then total.without end as stores_unknown,
       case when has_targets then (total.allowed / 2000)::double precision end as budget_allowed_seconds,
       case when has_targets then total.used / 2000::double precision end as budget_used_seconds,
       case when has_targets then ((total.allowed - total.used) / 2000)::double precision end
           as budget_left_seconds
from report
join report_group as grouped on grouped.report = report.id
cross join lateral unnest(
    grouped.up, grouped.down, grouped.unknown, grouped.excluded,
    grouped.met, grouped.missed, grouped.without, grouped.used, grouped.allowed
) with ordinality as total (up, down, unknown, excluded, met, missed, without, used, allowed, place)
cross join lateral (select total.met + total.missed + total.without > 0 as has_targets) as judged;

create view report_store_result as
select report.id as report_id,
       report.finished_at,
       report.as_of,
       stored.place as window_number,
       (coalesce(
           report.window_names,
           case when report.windows is null then array['last_hour', 'last_day', 'last_week'] end
       ))[stored.place] as window_name,
       store.store_id,
       nullif(store.name, '') as name,
       coalesce(store.tags, '{}')::jsonb as tags,
       batch.zone_names[store.zone] as timezone,
       nullif(store.target, -1) / 100000000::double precision as target,
       store.up / 2000::double precision as uptime_seconds,
       store.down / 2000::double precision as downtime_seconds,
       store.unknown / 2000::double precision as unknown_seconds,
       store.excluded / 2000::double precision as excluded_seconds,
       (store.up + store.down + store.unknown + store.excluded) / 2000::double precision
           as business_seconds,
       store.up / nullif(store.up + store.down, 0)::double precision as availability
from report
join report_store_batch as batch on batch.report = report.id
join report_store_totals as stored on stored.report = report.id and stored.batch = batch.batch
cross join lateral unnest(
    batch.store_ids, batch.names, batch.tags, batch.zone, batch.target,
    stored.up, stored.down, stored.unknown, stored.excluded
) as store (store_id, name, tags, zone, target, up, down, unknown, excluded);
