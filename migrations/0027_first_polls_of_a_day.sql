-- append_polls also takes polls that are the first of their stores and days: after midnight UTC, all are. As it was, but for
-- what it does when some could not be appended.
create or replace function append_polls(
    stores text[], days integer[], words bytea[], instants timestamptz[], shared_lock bigint
) returns integer[] language plpgsql
set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
    stored integer[];
    newest timestamptz;
    first_stored integer[];
    newest_first timestamptz;
    is_all boolean;
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
    select array_agg(position), max(instant) into stored, newest from appended;
    if coalesce(cardinality(stored), 0) < cardinality(stores) then
        with absent as materialized (
            select store.id as store, given.day, given.word, given.instant, given.position::integer
            from unnest(stores, days, words, instants) with ordinality as given (store_id, day, word, instant, position)
            join store on store.store_id = given.store_id
            where not exists (
                select from poll_day
                where poll_day.store = store.id and poll_day.day = given.day and poll_day.day between first_day and last_day
            )
        ), added as (
            insert into poll_day (store, day, polls) select store, day, word from absent order by position
            on conflict (store, day) do nothing
            returning 1
        )
        select array_agg(position), max(instant), count(*) = (select count(*) from added)
        into first_stored, newest_first, is_all from absent;
        if not is_all then
            raise lock_not_available using message = 'another transaction has stored a poll of one of these days meanwhile';
        end if;
        stored := stored || first_stored;
        newest := greatest(newest, newest_first);
    end if;
    if stored is not null then
        perform note_newest_poll(newest);
    end if;
    return stored;
end
$$;

-- Of stores and days without polls, the positions, from 1, of those that another transaction is adding; to be rolled back.
-- Who waits for a row that is not committed cannot tell which one it is.
create function poll_days_added_elsewhere(stores integer[], days integer[]) returns integer[] language plpgsql
set lock_timeout = '1ms' as $$
declare
    elsewhere integer[] := '{}';
begin
    for position in 1..coalesce(cardinality(stores), 0) loop
        begin
            insert into poll_day (store, day, polls) values (stores[position], days[position], '') on conflict do nothing;
        exception when lock_not_available then
            elsewhere := elsewhere || position;
        end;
    end loop;
    return elsewhere;
end
$$;
