-- The release of the tz database that a report was made with, such as 2026f: without it nobody can check the numbers.
-- Null: not completed, or by an older version.
alter table report add column tz_version text;
