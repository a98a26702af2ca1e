-- poll_day becomes a table with partitions: the table of before, which is moved nowhere and not read, a month each for the
-- year after it, and a last one for what comes later. service/feeds/poll_months.py makes further months.

-- No default partition: none could be detached beside others then.

create function add_poll_days(first integer, beyond integer) returns void language plpgsql as $$
declare
    partition text := case
        when beyond is null then 'poll_day_after'
        else to_char(date '1970-01-01' + first, '"poll_day_"YYYY_MM')
    end;
    options text;
begin
    -- Storage settings are each partition's own: those of the one before, which somebody may have set.
    select array_to_string(before.reloptions, ', ') into options
    from pg_inherits join pg_class as before on before.oid = inhrelid
    where inhparent = 'poll_day'::regclass
        and pg_get_expr(before.relpartbound, before.oid) like format('%%TO (%s)', first);
    execute format(
        'create table %I (like poll_day including all) with (%s)', partition, coalesce(options, 'fillfactor = 90')
    );
    execute format(
        'alter table poll_day attach partition %I for values from (%s) to (%s)',
        partition, first, coalesce(beyond::text, 'maxvalue')
    );
end
$$;

-- Months from one on, and after them the last partition, which must not be there.
create function add_months_of_polls(first integer, months integer) returns void language plpgsql as $$
declare
    epoch constant date := '1970-01-01';
    begins date := epoch + first;
    ends date;
begin
    for month in 1..months loop
        ends := date_trunc('month', begins + interval '1 month');
        perform add_poll_days(begins - epoch, ends - epoch);
        begins := ends;
    end loop;
    perform add_poll_days(begins - epoch, null);
end
$$;

do $$
declare
    beyond integer;
    owner name;
    granted record;
begin
    for attempt in 1..300 loop
        begin
            set local lock_timeout = '500ms';
            lock table poll_day, poll in access exclusive mode;
            exit;
        exception when lock_not_available then
            if attempt = 300 then
                raise lock_not_available using message =
                    'the table poll_day is in use all the time, by reports or loads: start again when there are fewer';
            end if;
            perform pg_sleep(1.5);
        end;
    end loop;
    set local lock_timeout to default;

    select substring(pg_get_constraintdef(oid) from '\d+') into beyond
    from pg_constraint where conrelid = 'poll_day'::regclass and conname = 'poll_day_before';
    alter table poll_day rename to poll_day_before;
    alter index poll_day_pkey rename to poll_day_before_pkey;
    create table poll_day (
        store integer not null,
        day   integer not null,  -- days since 1970-01-01
        polls bytea   not null,
        primary key (store, day)
    ) partition by range (day);
    alter table poll_day alter column polls set storage external;
    -- The constraint spares reading it.
    execute format('alter table poll_day attach partition poll_day_before for values from (minvalue) to (%s)', beyond);
    alter table poll_day_before drop constraint poll_day_before;
    perform add_months_of_polls(beyond, 3);

    -- Who owns and who may read the table of before.
    select pg_get_userbyid(relowner) into owner from pg_class where oid = 'poll_day_before'::regclass;
    for granted in
        select privilege_type, is_grantable, case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end as grantee
        from pg_class, aclexplode(relacl)
        where oid = 'poll_day_before'::regclass and grantee <> relowner
    loop
        execute format(
            'grant %s on poll_day to %s %s',
            granted.privilege_type, granted.grantee, case when granted.is_grantable then 'with grant option' else '' end
        );
    end loop;
    if owner <> current_user then
        execute format('alter table poll_day owner to %I', owner);
    end if;
end
$$;

-- As it was, of all partitions; who may read it still may.
create or replace view poll as
select store.store_id,
       timestamptz '1970-01-01 00:00:00+00' + poll_day.day * interval '24 hours'
           + (word >> 1) * interval '1 millisecond' as instant,
       case word & 1 when 1 then 'active' else 'inactive' end as status
from poll_day
join store on store.id = poll_day.store
cross join lateral generate_series(0, length(polls) / 4 - 1) as i
cross join lateral packed_int4(polls, i) as word;

-- As it was, but for the days that are named once more: no partition of others is looked at.
create or replace function append_polls(
    stores text[], days integer[], words bytea[], instants timestamptz[], shared_lock bigint
) returns integer[] language plpgsql
-- Row by row in the order given, by the indexes, whatever the planner takes the tables' sizes for. One plan for all days:
-- a plan for each call takes longer the more partitions there are.
set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
    added integer[];
    newest timestamptz;
    first_day integer := (select min(day) from unnest(days) as given (day));
    last_day integer := (select max(day) from unnest(days) as given (day));
begin
    perform pg_advisory_xact_lock_shared(shared_lock);
    with appended as (
        update poll_day set polls = poll_day.polls || given.word
        from unnest(stores, days, words, instants) with ordinality as given (store_id, day, word, instant, position)
        join store on store.store_id = given.store_id
        where poll_day.store = store.id and poll_day.day = given.day and poll_day.day between first_day and last_day
            and packed_int4(poll_day.polls, length(poll_day.polls) / 4 - 1) >> 1 < packed_int4(given.word, 0) >> 1
        returning given.position::integer, given.instant
    )
    select array_agg(position), max(instant) into added, newest from appended;
    if added is not null then
        perform note_newest_poll(newest);
    end if;
    return added;
end
$$;
