-- What the feeds say (store, poll_day), what was asked (report), and the views that show packed data as plain rows.

create table timezone (
    id   smallint generated always as identity primary key,
    name text not null unique  -- IANA name
);

create table store (
    id             integer generated always as identity primary key,
    -- Byte order, so that the order of a report does not depend on the server's locale.
    store_id       text collate "C" not null unique,
    timezone       smallint references timezone (id),  -- null: none given
    -- 8 bytes a row of hours, two little-endian int4: start in milliseconds since Monday 00:00 local time,
    -- end in milliseconds since 00:00 of the start's day. Ascending. Null: no row at all.
    business_hours bytea
);

-- One row per store and UTC day. Each poll is a little-endian int4: milliseconds since midnight << 1 | active,
-- ascending, one per millisecond. bytea, not int4[]: it is sent as it is, an int4[] element by element.
-- No foreign key: its check per row would double the time of a load, and only one statement inserts here.
create table poll_day (
    store integer not null,
    day   integer not null,  -- days since 1970-01-01
    polls bytea   not null,
    primary key (store, day)
);
-- Milliseconds of a day do not compress: do not try.
alter table poll_day alter column polls set storage external;

-- The newest poll's instant over all stores; one row at the most, set by the transaction that adds polls.
create table newest_poll (
    only_row boolean primary key default true check (only_row),
    instant  timestamptz not null
);

create table report (
    id              uuid primary key,
    state           text not null default 'queued'
                    check (state in ('queued', 'running', 'completed', 'failed')),
    as_of           timestamptz,  -- null until the run begins: the newest poll then
    interpolation   text not null check (interpolation in ('nearest', 'previous')),
    max_gap         interval not null,
    include_unknown boolean not null,
    stores_done     integer not null default 0,
    stores_total    integer,
    error           text,
    attempts        integer not null default 0,
    leased_until    timestamptz,  -- a running report whose lease has passed belongs to whoever takes it
    created_at      timestamptz not null default now(),
    started_at      timestamptz,
    finished_at     timestamptz
);
create index report_unfinished on report (created_at) where state in ('queued', 'running');

create function packed_int4(packed bytea, i integer) returns integer
language sql immutable strict parallel safe as $$
    -- Each shift in brackets: to PostgreSQL, << binds no tighter than |.
    select get_byte(packed, 4 * i)
         | (get_byte(packed, 4 * i + 1) << 8)
         | (get_byte(packed, 4 * i + 2) << 16)
         | (get_byte(packed, 4 * i + 3) << 24)
$$;

create view poll as
select store.store_id,
       timestamptz '1970-01-01 00:00:00+00' + poll_day.day * interval '24 hours'
           + (word >> 1) * interval '1 millisecond' as instant,
       case word & 1 when 1 then 'active' else 'inactive' end as status
from poll_day
join store on store.id = poll_day.store
cross join lateral generate_series(0, length(polls) / 4 - 1) as i
cross join lateral packed_int4(polls, i) as word;

create view business_hours as
select store.store_id,
       start_of_week / 86400000 as weekday,  -- 0 = Monday
       (start_of_week % 86400000) * interval '1 millisecond' as start_local,
       end_of_day * interval '1 millisecond' as end_local
from store
cross join lateral generate_series(0, length(business_hours) / 8 - 1) as i
cross join lateral packed_int4(business_hours, 2 * i) as start_of_week
cross join lateral packed_int4(business_hours, 2 * i + 1) as end_of_day;
