-- How all stores are: looked at every so often, and stores whose polls have just come at once.

-- One row. Whoever has it locked looks at stores, so looks come one after the other, over all instances. Instants are
-- milliseconds since 1970-01-01 UTC.
create table state_round (
    only_row  boolean primary key default true check (only_row),
    as_of     bigint,                     -- of the last look; null: there was none
    full_at   bigint,                     -- of the last look at all stores
    next_at   bigint not null default 0,  -- when all stores are looked at again
    looks     bigint not null default 0,  -- how many looks there were
    forgotten bigint not null default 0   -- the last id of a state_change that is no longer kept
);
insert into state_round default values;

-- How each store was at the last look at it: what service/states and compute/standing.py tell on from one look to the
-- next. Only what changes is written. No foreign key: its check would hold up who deletes stores, and be held up. The
-- next look at all stores removes the rows of those that are gone.
create table store_state (
    store        integer  primary key,
    state        smallint not null,  -- index into compute.timeline.STATES
    since        bigint,             -- null: not known, or always
    spoken       smallint not null,  -- state of the last stretch of unknown, down or up; -1: none
    spoken_since bigint,
    down_for     integer  not null,  -- milliseconds of the open outage, up to a day and one more
    newest_poll  bigint,             -- instant << 1 | active
    silent_for   integer,            -- milliseconds since it, the same; null: it is not long ago
    as_of        bigint   not null,  -- of the look that wrote this row
    -- How far back was looked: 0 not at all, as it was left out meanwhile; 1 some days; 2 as far as anything is.
    depth        smallint not null
) with (fillfactor = 70);
create index store_state_by_state on store_state (state);

-- What changed in the last day. Ids are in the order of the commits, as looks come one after the other.
create table state_change (
    id       bigint generated always as identity primary key,
    store    integer  not null,
    store_id text     collate "C" not null,
    before   smallint not null,
    state    smallint not null,
    since    bigint,
    as_of    bigint   not null
);

-- There is a row while what is told on from look to look may be wrong: something other than single polls was stored, or
-- something was deleted. The next look at all stores then is one from scratch, and removes the row. A transaction that
-- finds one locks it instead of adding its own, so there are no more rows than such transactions at a time.
create table state_doubt (
    id       bigint generated always as identity primary key,
    noted_at timestamptz not null default now()
);
