-- Idempotency keys of one caller each, reports that were deleted or can be forgotten, lists by state and time, and
-- store ids that a spreadsheet must not take for formulas.

alter table report
    drop constraint report_idempotency_key_key,
    -- The API key that the idempotency key came with; 0: none was needed. Null: an older version took it.
    add column idempotency_caller integer,
    -- Beside the ids, so that a list need not read them.
    add column named_stores       integer generated always as (cardinality(stores)) stored,
    add column escape_formulas    boolean not null default false,
    -- The run of whoever knew of escape_formulas when they took the report.
    add column run_escapes        integer;

create unique index report_idempotency on report (idempotency_caller, idempotency_key)
    where idempotency_key is not null;
create index report_by_state on report (state, created_at desc, id desc);
create index report_over on report (finished_at) where state in ('failed', 'cancelled', 'expired');

-- An older version beside this one does not know of escape_formulas, and would write the file without.
create function leave_report() returns trigger language plpgsql as $$
begin
    return null;  -- the row stays as it is, and whoever wanted to take it finds none
end
$$;
-- Its name comes before that of report_changed, and so does it: nothing is told of what does not happen.
create trigger report_begun before update on report
    for each row
    when (new.escape_formulas and new.run <> old.run and new.run_escapes is distinct from new.run)
    execute function leave_report();

-- For a day, so that a DELETE that is sent again is answered as the first one was.
create table deleted_report (
    id         uuid primary key,
    deleted_at timestamptz not null default now()
);
create index deleted_report_oldest on deleted_report (deleted_at);
