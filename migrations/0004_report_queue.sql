-- Reports that several instances share: cancelled and expired ones, a file that any instance can serve, a key
-- against asking twice, and a word on the channel `storewatch_report` whenever something about a report changes.

alter table report
    drop constraint report_state_check,
    add constraint report_state_check
        check (state in ('queued', 'running', 'completed', 'failed', 'cancelled', 'expired')),
    -- Counts the times that anybody took the report: a statement about a report that somebody else took since
    -- finds no row. Unlike attempts, it never goes back.
    add column run             integer not null default 0,
    add column version         integer not null default 1,  -- of what is told about it
    add column asked_as_of     timestamptz,  -- null: the newest poll when the run begins
    add column stores          text[],   -- ids; null: all stores
    add column idempotency_key text unique,
    add column request_sha256  bytea,    -- what the idempotency key was used for
    add column file_size       bigint,   -- bytes
    add column file_sha256     bytea;

create index report_newest on report (created_at desc, id desc);
create index report_completed on report (finished_at) where state = 'completed';

create function tell_report() returns trigger language plpgsql as $$
declare
    told report := coalesce(new, old);
begin
    if tg_op = 'UPDATE' then
        new.version := old.version + 1;
        told := new;
    end if;
    perform pg_notify('storewatch_report', json_build_object(
        'report', told.id,
        'state', case tg_op when 'DELETE' then 'deleted' else told.state end
    )::text);
    return told;
end
$$;

-- Before, as the version is part of the change; what is told goes out when the transaction is through.
create trigger report_added before insert on report
    for each row execute function tell_report();
create trigger report_deleted before delete on report
    for each row execute function tell_report();
create trigger report_changed before update on report
    for each row
    when ((old.state, old.stores_done, old.stores_total, old.as_of, old.run)
        is distinct from (new.state, new.stores_done, new.stores_total, new.as_of, new.run))
    execute function tell_report();
