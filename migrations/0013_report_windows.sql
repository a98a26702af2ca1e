-- Windows that a report is asked for, in place of the last hour, day and week; and the tags of its stores.

alter table report
    add column windows          text[],  -- as they were asked for; null: the last hour, day and week
    add column calendar         text,    -- IANA name of the zone of calendar periods; null: each store's own
    add column unit             text check (unit in ('seconds', 'minutes', 'hours')),
    add column include_excluded boolean not null default false,
    add column tags             text[],  -- key:value; null: whatever they are
    -- Of the hours, special hours, exclusions and zones that it was made of; null: not completed, or by an older version.
    add column fingerprint      bytea,
    -- The run of whoever knew of these when they took the report.
    add column run_windows      integer,
    add constraint report_windows check ((windows is null) = (unit is null) and (windows is not null or calendar is null));

-- An older version beside this one knows of none of them, and would write another file.
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
        )
    )
    execute function leave_report();

-- Only reports over the same windows follow on each other.
drop index report_by_as_of;
create index report_by_as_of on report (interpolation, max_gap, as_of) where named_stores is null and windows is null and tags is null;
