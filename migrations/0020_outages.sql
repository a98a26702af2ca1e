-- Instants by which outages are named for keeps, and what people say of them. Outages themselves are computed:
-- a name means the outage of its store that holds the instant.

create table outage (
    -- No foreign key: its check would lock the store's row, and wait for feeds that write it. See the trigger below.
    store    integer not null,
    anchor   timestamptz not null,
    note     text,
    cause    text,
    author   text,         -- of both, as they themselves say
    noted_at timestamptz,  -- when one of the three was last set; null: there is none
    primary key (store, anchor)
);
-- Those that nobody says anything of are not kept for ever.
create index outage_without_note on outage (anchor) where noted_at is null;

-- A trigger, so that a version that does not know of outages deletes them with their store, too. Numbers of stores are
-- not used again: a row that is written just then means nothing, and is tidied away in its time.
create function forget_outages() returns trigger language plpgsql as $$
begin
    delete from outage using gone where outage.store = gone.id;
    return null;
end
$$;
create trigger store_forgets_outages after delete on store
    referencing old table as gone for each statement execute function forget_outages();
