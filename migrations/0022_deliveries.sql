-- Files of a schedule's reports, put where a loader looks for them.

alter table schedule
    add column deliver_to text,                           -- where: a folder or a URL; null: nowhere
    add column deliver_as text[] not null default '{csv}';

-- What was to be done when the report was queued; the schedule may have been changed or deleted since, and the report too.
create table delivery (
    report_id      uuid primary key,
    schedule_id    uuid not null,
    schedule_name  text not null,
    deliver_to     text not null,
    formats        text[] not null,
    state          text not null default 'waiting' check (state in ('waiting', 'delivered', 'failed')),
    due            timestamptz default now(),   -- when to look at it; of one that is being made: when its lease passes; null: it has ended
    attempts       integer not null default 0,  -- how often an instance took it
    broken_off     integer not null default 0,  -- how often in a row one took it and never said what came of it
    first_tried_at timestamptz,
    error          text,                        -- why the last attempt failed
    files          text[] not null default '{}',
    ended_at       timestamptz,
    created_at     timestamptz not null default now(),
    constraint delivery_due check ((state = 'waiting') = (due is not null) and (state = 'waiting') = (ended_at is null))
);
create index delivery_by_due on delivery (due) where due is not null;
create index delivery_by_schedule on delivery (schedule_id, ended_at);
