-- From which day on polls are kept, and which partitions of poll_day have to go. It is committed before any of them goes, so
-- that no report can lack polls without knowing of it.
create table polls_kept (
    only_row  boolean primary key default true check (only_row),
    since_day integer,                     -- days since 1970-01-01; null: all are kept
    going     text[] not null default '{}'  -- names of partitions, until they are gone
);
insert into polls_kept default values;

-- Whoever may read polls, from a replica perhaps, has to know.
do $$
declare
    grantee text;
begin
    for grantee in
        select case acl.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(acl.grantee)) end
        from pg_class, aclexplode(relacl) as acl
        where oid = 'poll_day'::regclass and privilege_type = 'SELECT' and acl.grantee <> relowner
    loop
        execute format('grant select on polls_kept to %s', grantee);
    end loop;
end
$$;

-- Where a window of the report, or what speaks into it, begins before polls are kept: since when they were when it was
-- made; null: it is about nothing that is no longer kept, or not completed, or by an older version.
alter table report add column polls_kept_since timestamptz;
