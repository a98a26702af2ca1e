-- Schedules, by which reports are asked for at certain times.

create table schedule (
    id         uuid primary key,
    name       text collate "C" not null unique,
    cron       text not null,           -- five fields
    timezone   text not null,           -- IANA name of the zone in whose local time they are
    as_of      text not null check (as_of in ('scheduled', 'newest_poll')),
    report     json not null,           -- the body of POST /reports, without what is left out
    paused     boolean not null,
    next_run   timestamptz,             -- null: paused, or never again
    due        timestamptz,             -- when to look at it: next_run, or later to try again; null: never
    last_run   timestamptz,             -- the last time of the plan for which a report was queued
    last_error text,                    -- why none was queued at the time after it; null: there is nothing wrong
    created_at timestamptz not null default now()
);
create index schedule_due on schedule (due) where due is not null;

-- The reports of schedules outlive them. An older version beside this one leaves both columns alone.
alter table report
    add column schedule_id   uuid,         -- that asked for it; null: somebody did
    add column scheduled_for timestamptz;  -- time of the plan; null: none, it was run by hand
create index report_by_schedule on report (schedule_id, created_at) where schedule_id is not null;
