-- Reads all of poll_day, however long that takes, while others read and write it.
alter table poll_day validate constraint poll_day_before;
