-- Who may ask. A row stays when its key is revoked: a service that once had a key never opens again by itself.

create table api_key (
    id           integer generated always as identity primary key,
    name         text not null,
    prefix       text not null,  -- the key's first characters, by which people recognise it
    sha256       bytea not null unique check (length(sha256) = 32),
    scope        text not null check (scope in ('read', 'write')),
    created_at   timestamptz not null default now(),
    last_used_at timestamptz,  -- to the minute
    revoked_at   timestamptz
);
create unique index api_key_name on api_key (name) where revoked_at is null;
