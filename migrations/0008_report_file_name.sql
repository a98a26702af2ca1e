-- What the file of a completed report is called: each run has a name of its own, and only the run that completes the
-- report is named here, so nothing that an earlier run writes late is ever served. Null: by an older version, `<id>.csv`.
alter table report add column file_name text;
