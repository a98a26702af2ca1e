-- Targets of stores and reports, and reports by groups of stores.

-- Of its own, in hundred-millionths (0.995 is 99500000); null: none, and that of the report counts.
alter table store add column target integer check (target between 1 and 100000000);

alter table report
    add column group_by   text[],   -- keys of tags, `timezone` for the zone; null: no groups
    add column target     integer check (target between 1 and 100000000),
    add column run_groups integer;  -- the run of whoever knew of these when they took the report

-- The groups of completed reports. They go when the report's files do.
create table report_group (
    report     uuid not null references report (id) on delete cascade,
    place      integer not null,    -- in byte order of the values, from 0
    tag_values text[] collate "C" not null,  -- in the order of the report's group_by; '': without such a tag
    stores     integer not null,
    -- By window, half-milliseconds.
    up         bigint[] not null,
    down       bigint[] not null,
    unknown    bigint[] not null,
    excluded   bigint[] not null,
    -- By window: stores that met their target, that missed it, and that have one but of which nothing is known.
    met        integer[] not null,
    missed     integer[] not null,
    without    integer[] not null,
    -- By window, of the stores that have a target: their downtime, and how much of it is allowed; half-milliseconds.
    used       bigint[] not null,
    allowed    numeric[] not null,
    worst      jsonb not null,      -- by window: those with the most downtime, worst first, as [[id, up, down], …]
    primary key (report, place)
);
