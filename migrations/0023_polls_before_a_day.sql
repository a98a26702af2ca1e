-- Polls in a partition for each month, so that old ones go by dropping a month. The table that there is becomes the first
-- partition as it is, in three migrations, as it may be large: here it gets a bound, the next one reads all of it to check
-- the bound, while everybody goes on, and 0025 makes a partition of it.

-- The bound lies beyond all that is stored, and beyond what a version before this one stores meanwhile.
do $$
declare
    beyond integer;
begin
    select (date_trunc('month', greatest(now(), max(instant)) at time zone 'UTC') + interval '2 months')::date - date '1970-01-01'
    into beyond from newest_poll;
    for attempt in 1..300 loop
        begin
            -- Whoever comes after us waits for as long as we wait for those before us.
            set local lock_timeout = '500ms';
            execute format('alter table poll_day add constraint poll_day_before check (day < %s) not valid', beyond);
            exit;
        exception when lock_not_available then
            if attempt = 300 then
                raise lock_not_available using message =
                    'the table poll_day is in use all the time, by reports or loads: nothing was changed; start again when there are fewer';
            end if;
            perform pg_sleep(1.5);
        end;
    end loop;
end
$$;
