-- Groups of reports in a form that is written in a third of the time: all numbers of a group in one array, and no foreign
-- key, which is looked up for each row. They are written in the transaction that completes the report, and a trigger
-- removes them with it.

drop view report_group_result;

alter table report_group
    drop constraint report_group_report_fkey,
    -- By window: up, down, unknown, excluded; stores that met their target, that missed it, that have one but of which
    -- nothing is known; of those that have one their downtime, and how much of it is allowed, whole and in
    -- hundred-millionths; then up and down of each of the three stores with the most downtime, worst first, 0 and 0 where
    -- there are no more. Times are half-milliseconds.
    add column totals bigint[],
    add column worst_ids text[];  -- by window, of these three; '': there are no more

update report_group set
    totals = (
        select array_agg(array[
            up[w], down[w], unknown[w], excluded[w], met[w], missed[w], without[w],
            used[w], trunc(allowed[w])::bigint, (allowed[w] % 1 * 100000000)::bigint,
            coalesce((of_window -> 0 ->> 1)::bigint, 0), coalesce((of_window -> 0 ->> 2)::bigint, 0),
            coalesce((of_window -> 1 ->> 1)::bigint, 0), coalesce((of_window -> 1 ->> 2)::bigint, 0),
            coalesce((of_window -> 2 ->> 1)::bigint, 0), coalesce((of_window -> 2 ->> 2)::bigint, 0)
        ] order by w)
        from generate_subscripts(up, 1) as w
        cross join lateral (select worst -> w - 1 as of_window) as told
    ),
    worst_ids = (
        select array_agg(coalesce(worst -> w - 1 -> rank ->> 0, '') order by w, rank)
        from generate_subscripts(up, 1) as w
        cross join generate_series(0, 2) as rank
    );

alter table report_group
    alter column totals set not null,
    alter column worst_ids set not null,
    drop column up,
    drop column down,
    drop column unknown,
    drop column excluded,
    drop column met,
    drop column missed,
    drop column without,
    drop column used,
    drop column allowed,
    drop column worst;

create function forget_groups_of_report() returns trigger language plpgsql as $$
begin
    delete from report_group where report = old.id;
    return null;
end
$$;
create trigger report_groups_deleted after delete on report
    for each row execute function forget_groups_of_report();

-- As it was.
create view report_group_result as
select report.id as report_id,
       report.finished_at,
       report.as_of,
       report.named_stores,
       report.tags as named_tags,
       report.group_by,
       grouped.tag_values,
       jsonb_object(report.group_by, grouped.tag_values) as tags,
       window_number,
       (coalesce(
           report.window_names,
           case when report.windows is null then array['last_hour', 'last_day', 'last_week'] end
       ))[window_number] as window_name,
       grouped.stores,
       total.up / 2000::double precision as uptime_seconds,
       total.down / 2000::double precision as downtime_seconds,
       total.unknown / 2000::double precision as unknown_seconds,
       total.excluded / 2000::double precision as excluded_seconds,
       (total.up + total.down + total.unknown + total.excluded) / 2000::double precision
           as business_seconds,
       total.up / nullif(total.up + total.down, 0)::double precision as availability,
       case when has_targets then total.met end as stores_met,
       case when has_targets then total.missed end as stores_missed,
       case when has_targets then total.without end as stores_unknown,
       case when has_targets then (total.allowed / 2000)::double precision end as budget_allowed_seconds,
       case when has_targets then total.used / 2000::double precision end as budget_used_seconds,
       case when has_targets then ((total.allowed - total.used) / 2000)::double precision end
           as budget_left_seconds
from report
join report_group as grouped on grouped.report = report.id
cross join lateral generate_subscripts(grouped.totals, 1) as window_number
cross join lateral (
    select totals[window_number][1] as up,
           totals[window_number][2] as down,
           totals[window_number][3] as unknown,
           totals[window_number][4] as excluded,
           totals[window_number][5]::integer as met,
           totals[window_number][6]::integer as missed,
           totals[window_number][7]::integer as without,
           totals[window_number][8] as used,
           totals[window_number][9] + totals[window_number][10]::numeric / 100000000 as allowed
) as total
cross join lateral (select total.met + total.missed + total.without > 0 as has_targets) as judged;
