-- All stores of a report together, as service/summary.py reads and writes it; null: not completed, or by an older version.
alter table report add column summary jsonb;
