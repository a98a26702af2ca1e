-- Business hours with a history, special hours, what a store is called and tagged with, and exclusions.

-- `business_hours` stays the week without a date, so that an older version beside this one goes on as it did. Closed
-- for all time is its one row (-1, -1).
alter table store
    -- 12 bytes a row of hours, three little-endian int4: the first date (days since 1970-01-01) of its week, then start
    -- and end as in business_hours; the one row (date, -1, -1) is a week that is closed on every day. Ascending. Null:
    -- no week with a date.
    add column dated_weeks     bytea,
    -- 12 bytes a row, three little-endian int4: date (days since 1970-01-01), start and end, both in milliseconds since
    -- 00:00 of that date; the one row (date, -1, -1) is a date that is closed. Ascending. Null: none.
    add column special_hours   bytea,
    -- Date (days since 1970-01-01, as text) → why it is special. Beside the hours, which alone are computed with.
    add column special_reasons jsonb,
    add column name            text,
    add column tags            jsonb;  -- key → value, both text; null: none

create index store_by_tags on store using gin (tags jsonb_path_ops) where tags is not null;

-- Time that counts neither for nor against some stores.
create table exclusion (
    id        uuid primary key default gen_random_uuid(),
    -- Whom it covers: these ids, or who has all of these tags; all stores, if both are null.
    store_ids text[] collate "C",
    tags      jsonb,
    begins    timestamptz not null,
    ends      timestamptz not null,  -- not included
    reason    text not null,
    -- SHA-256 of whom it covers, as service/feeds/exclusions.py writes that: ids may be too long for an index.
    whom      bytea not null check (length(whom) = 32),
    check (store_ids is null or tags is null),
    check (begins < ends),
    unique (whom, begins, ends)
);
create index exclusion_by_time on exclusion using gist (tstzrange(begins, ends));
create index exclusion_by_store on exclusion using gin (store_ids) where store_ids is not null;
create index exclusion_in_order on exclusion (begins, id);

alter table feed_load
    drop constraint feed_load_feed_check,
    add constraint feed_load_feed_check check (
        feed in ('polls', 'business_hours', 'special_hours', 'exclusions', 'stores', 'timezones')
    ),
    add column removed bigint not null default 0;
alter table feed_refusal
    drop constraint feed_refusal_feed_check,
    add constraint feed_refusal_feed_check check (
        feed in ('polls', 'business_hours', 'special_hours', 'exclusions', 'stores', 'timezones')
    );

-- For people. A week or a date that is closed has one row, without a weekday, a start and an end.
create or replace view business_hours as
select store_id, weekday, start_local, end_local, valid_from
from (
    select store.store_id, null::date as valid_from, start_of_week, end_of_day
    from store
    cross join lateral generate_series(0, length(business_hours) / 8 - 1) as i
    cross join lateral packed_int4(business_hours, 2 * i) as start_of_week
    cross join lateral packed_int4(business_hours, 2 * i + 1) as end_of_day
    union all
    select store.store_id, date '1970-01-01' + day, start_of_week, end_of_day
    from store
    cross join lateral generate_series(0, length(dated_weeks) / 12 - 1) as i
    cross join lateral packed_int4(dated_weeks, 3 * i) as day
    cross join lateral packed_int4(dated_weeks, 3 * i + 1) as start_of_week
    cross join lateral packed_int4(dated_weeks, 3 * i + 2) as end_of_day
) as week
cross join lateral (
    select case when start_of_week >= 0 then start_of_week / 86400000 end as weekday,  -- 0 = Monday
           case when start_of_week >= 0
               then (start_of_week % 86400000) * interval '1 millisecond' end as start_local,
           case when start_of_week >= 0 then end_of_day * interval '1 millisecond' end as end_local
) as shown;

create view special_hours as
select store.store_id,
       date '1970-01-01' + day as date,
       case when starts >= 0 then starts * interval '1 millisecond' end as start_local,
       case when starts >= 0 then ends * interval '1 millisecond' end as end_local,
       coalesce(special_reasons ->> day::text, '') as reason
from store
cross join lateral generate_series(0, length(special_hours) / 12 - 1) as i
cross join lateral packed_int4(special_hours, 3 * i) as day
cross join lateral packed_int4(special_hours, 3 * i + 1) as starts
cross join lateral packed_int4(special_hours, 3 * i + 2) as ends;
