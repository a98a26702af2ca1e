-- Beside its CSV a report keeps the exact totals of each store; null: not completed, or by an older version.
alter table report add column totals_size bigint;  -- bytes
-- Reports of the same options by the instant that they end at: what was before.
create index report_by_as_of on report (interpolation, max_gap, as_of) where named_stores is null;
