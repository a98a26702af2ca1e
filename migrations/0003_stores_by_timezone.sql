-- Pages of the stores of one zone, in the order of their ids.
create index store_by_timezone on store (timezone, store_id);
