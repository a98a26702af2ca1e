-- Several transactions store polls at the same time, so none of them may hold the one row of newest_poll until it is
-- through: each takes a row that nobody else has, and the newest of all rows counts.

alter table newest_poll rename to newest_poll_row;
alter table newest_poll_row drop column only_row;  -- and with it the primary key
alter table newest_poll_row add column id integer generated always as identity primary key;

-- An older version beside this one can read it, but not write it: it would not see what is stored beside it, so its
-- feeds fail, and nothing of them is stored.
create view newest_poll as select max(instant) as instant from newest_poll_row;

create function note_newest_poll(polled timestamptz) returns void language plpgsql as $$
declare
    free integer;
begin
    if exists (select from newest_poll_row where instant >= polled) then
        return;
    end if;
    select id into free from newest_poll_row limit 1 for update skip locked;
    if found then
        -- Its instant may be newer by now than when we looked.
        update newest_poll_row set instant = greatest(instant, polled) where id = free;
    else
        insert into newest_poll_row (instant) values (polled);
    end if;
end
$$;

-- Single polls, each newer than all others of its store and day: most are, and one statement is all that they need.
-- Returns the positions, from 1, of those that were added; the others are not such polls, and nothing was done.
create function append_polls(
    stores text[], days integer[], words bytea[], instants timestamptz[], shared_lock bigint
) returns integer[] language plpgsql
-- Row by row in the order given, by the indexes, whatever the planner takes the tables' sizes for.
set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off as $$
declare
    added integer[];
    newest timestamptz;
begin
    perform pg_advisory_xact_lock_shared(shared_lock);
    with appended as (
        update poll_day set polls = poll_day.polls || given.word
        from unnest(stores, days, words, instants) with ordinality as given (store_id, day, word, instant, position)
        join store on store.store_id = given.store_id
        where poll_day.store = store.id and poll_day.day = given.day
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

-- Room in each page for the rows that grow, poll by poll: so they stay in it, and their index entries do. Table and
-- figures: tests/bench/README.md.
alter table poll_day set (fillfactor = 90);
