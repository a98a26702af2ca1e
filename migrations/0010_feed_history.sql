-- What became of the files of feeds that were sent last. Who adds a row takes the oldest of its feed away, so there are
-- never many, and no index. What came as JSON, a poll at a time perhaps, leaves no row.

create table feed_load (
    id           bigint generated always as identity primary key,
    at           timestamptz not null default clock_timestamp(),
    feed         text not null check (feed in ('polls', 'business_hours', 'timezones')),
    api_key      text,              -- its name; null: it came without
    from_command boolean not null,  -- storewatch ingest
    rows         bigint not null,
    stores       bigint not null,
    new          bigint not null,
    replaced     bigint not null,
    unchanged    bigint not null
);

-- A table of its own: whoever is refused does it beside those whose turn it is to store a feed, and they wait for nobody.
create table feed_refusal (
    id           bigint generated always as identity primary key,
    at           timestamptz not null default clock_timestamp(),
    feed         text check (feed in ('polls', 'business_hours', 'timezones')),  -- null: its header was none of a feed's
    api_key      text,
    from_command boolean not null,
    fault        text not null,    -- the first, in words
    faults       bigint not null
);
