"""API keys: made and revoked by command, asked of every request once there is one."""

import asyncio
import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import pytest

from service.database.migrations import migrate
from service.keys import KeyRing, create_key
from tests.harness.database import ask, database_away
from tests.harness.processes import eventually, make_key, storewatch
from tests.harness.service import Service, problem, running_service

EVERYWHERE = "0.0.0.0"  # noqa: S104
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Iterator[Service]:
    """A service that had no key when it began."""
    with running_service(database_url, tmp_path) as service:
        yield service


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


# Without a key.


def test_without_a_key_this_machine_is_served_and_the_log_says_so(empty_service: Service) -> None:
    assert "there is no API key, so only this machine itself is served" in empty_service.log
    for path in ("/stores", "/metrics", "/trigger_report", "/get_report/x"):
        assert empty_service.get(path).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "example.com"},
        {"Host": "storewatch.internal:8000"},
        {"X-Forwarded-For": "203.0.113.7"},
        {"Forwarded": "for=203.0.113.7"},
        {"Origin": "https://example.com"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_without_a_key_nobody_else_is_served_through_this_machine(
    empty_service: Service, headers: dict[str, str]
) -> None:
    for path in ("/stores", "/trigger_report", "/metrics"):
        answer = empty_service.get(path, headers=headers)
        assert answer.status_code == 403
        assert problem(answer)["type"] == "/problems/key-needed"
    assert empty_service.get("/health/live", headers=headers).status_code == 200


def test_insecure_serves_every_program_but_no_page_of_another_site(
    database_url: str, tmp_path: Path
) -> None:
    with running_service(
        *(database_url, tmp_path, "--host", EVERYWHERE, "--insecure"),
        STOREWATCH_ALLOWED_HOSTS="stores.example, other.example",
    ) as service:
        assert "--insecure is set: every program is served" in service.log
        for served in ("192.0.2.7:8000", "[2001:db8::7]", "Stores.example:8000", "localhost"):
            assert service.get("/stores", headers={"Host": served}).status_code == 200
        assert service.get("/stores", headers={"X-Forwarded-For": "192.0.2.7"}).status_code == 200
        for headers in (
            {"Host": "rebound.example"},
            {"Origin": "https://page.example"},
            {"Sec-Fetch-Site": "cross-site"},
        ):
            for path in ("/stores", "/trigger_report"):
                answer = service.get(path, headers=headers)
                assert answer.status_code == 403, headers
                assert problem(answer)["type"] == "/problems/key-needed"
        key = make_key(database_url, tmp_path, "ops")
        eventually(lambda: service.get("/stores").status_code == 401)
        assert service.get("/stores", headers=bearer(key)).status_code == 200


# The first key.

FIRST = re.compile(r"The first API key, shown only now: (sw_[\w-]{43})\n")


def test_elsewhere_the_first_start_makes_a_key_and_shows_it_once(
    database_url: str, tmp_path: Path
) -> None:
    with running_service(database_url, tmp_path, "--host", EVERYWHERE) as service:
        [key] = FIRST.findall(service.log)
        assert service.get("/stores").status_code == 401
        assert service.get("/stores", headers=bearer(key)).status_code == 200
    with running_service(database_url, tmp_path, "--host", EVERYWHERE) as service:
        assert not FIRST.search(service.log)
        assert service.get("/stores").status_code == 401
        assert service.get("/stores", headers=bearer(key)).status_code == 200


def test_of_instances_that_start_together_one_makes_the_first_key(
    database_url: str, tmp_path: Path
) -> None:
    with ExitStack() as stack, ThreadPoolExecutor() as threads:
        starting = [
            threads.submit(
                stack.enter_context,
                running_service(database_url, tmp_path / name, "--host", EVERYWHERE),
            )
            for name in ("one", "two", "three")
        ]
        services = [start.result() for start in starting]
        [key] = FIRST.findall("".join(service.log for service in services))
        for service in services:
            assert service.get("/stores").status_code == 401
            assert service.get("/stores", headers=bearer(key)).status_code == 200


def test_a_key_can_be_asked_of_this_machine_too(database_url: str, tmp_path: Path) -> None:
    with running_service(database_url, tmp_path, STOREWATCH_REQUIRE_KEY="yes") as service:
        [key] = FIRST.findall(service.log)
        assert service.get("/stores").status_code == 401
        assert service.get("/stores", headers=bearer(key)).status_code == 200


def test_a_key_may_come_from_a_file_and_another_takes_its_place(
    database_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    old, new = ("sw_" + letter * 43 for letter in "ab")
    for key, gone in ((old, new), (old, new), (new, old)):
        file.write_text(f"{key}\n")
        with running_service(database_url, tmp_path, STOREWATCH_KEY_FILE=str(file)) as service:
            assert not FIRST.search(service.log)
            assert service.get("/stores").status_code == 401
            assert service.get("/stores", headers=bearer(gone)).status_code == 401
            assert service.get("/stores", headers=bearer(key)).status_code == 200
            assert key not in service.log


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read"),
        ("secret", "is not of the form"),
        ("sw_" + "r" * 43, "was revoked, as key file"),
    ],
)
def test_a_file_without_a_good_key_stops_the_start(
    database_url: str, tmp_path: Path, content: str | None, told: str
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        if content.startswith("sw_"):
            file.write_text(content)
            with running_service(database_url, tmp_path, STOREWATCH_KEY_FILE=str(file)):
                pass
            revoked = storewatch(
                *("keys", "revoke", "key file"), database_url=database_url, home=tmp_path
            )
            assert revoked.returncode == 0
        file.write_text(content)
    done = storewatch(
        *("serve", "--port", "0"),
        database_url=database_url,
        home=tmp_path,
        STOREWATCH_KEY_FILE=str(file),
    )
    assert done.returncode == 3
    assert told in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
    assert content is None or content not in done.stderr.decode()


# With a key.


def test_with_a_key_it_listens_anywhere_and_asks_for_it(database_url: str, tmp_path: Path) -> None:
    key = make_key(database_url, tmp_path, "ops")
    with running_service(database_url, tmp_path, "--host", EVERYWHERE) as service:
        for path in ("/stores", "/metrics", "/trigger_report", "/get_report/x"):
            refused = service.get(path)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == 'Bearer realm="storewatch"'
            problem(refused)
            # Who has a key may come by any name, and through a proxy.
            headers = {**bearer(key), "Host": "example.com", "X-Forwarded-For": "203.0.113.7"}
            assert service.get(path, headers=headers).status_code == 200
            assert service.get(path, headers={"X-API-Key": key}).status_code == 200
        for path in ("/health/live", "/health/ready", "/schema", "/schema/openapi.json"):
            assert service.get(path).status_code == 200


def test_a_key_counts_in_a_running_service_and_when_revoked_no_more(
    service: Service, database_url: str, tmp_path: Path
) -> None:
    assert service.get("/stores").status_code == 200
    key = make_key(database_url, tmp_path, "ops")
    eventually(lambda: service.get("/stores").status_code == 401)
    assert service.get("/stores", headers=bearer(key)).status_code == 200

    revoked = storewatch("keys", "revoke", "ops", database_url=database_url, home=tmp_path)
    assert revoked.returncode == 0
    eventually(lambda: service.get("/stores", headers=bearer(key)).status_code == 401)
    answer = service.get("/stores", headers=bearer(key))
    assert problem(answer)["type"] == "/problems/key-not-valid"
    # A service that once had a key does not open again.
    assert service.get("/stores").status_code == 401


def test_a_key_of_scope_read_changes_nothing(database_url: str, tmp_path: Path) -> None:
    read = make_key(database_url, tmp_path, "reader", "--scope", "read")
    write = make_key(database_url, tmp_path, "writer", "--scope", "write")
    changes = [
        ("POST", "/polls", "[]"),
        ("POST", "/business-hours", "[]"),
        ("POST", "/timezones", "[]"),
        ("PUT", "/stores/s1/timezone", '{"timezone": "Asia/Tokyo"}'),
        ("PUT", "/stores/s1/business-hours", "[]"),
        ("GET", "/trigger_report", ""),
    ]
    with running_service(database_url, tmp_path) as service:
        for method, path, body in changes:
            refused = service.ask(method, path, content=body, headers={**bearer(read), **JSON})
            assert refused.status_code == 403
            assert problem(refused)["type"] == "/problems/scope-too-small"
            assert 'error="insufficient_scope"' in refused.headers["www-authenticate"]
        assert ask(database_url, "select count(*) from store") == [(0,)]
        for method, path, body in changes:
            done = service.ask(method, path, content=body, headers={**bearer(write), **JSON})
            assert done.status_code == 200, done.text
        assert service.get("/stores", headers=bearer(read)).json()["items"]


def test_whatever_is_sent_as_a_key_must_be_one(database_url: str, tmp_path: Path) -> None:
    key = make_key(database_url, tmp_path, "ops")
    with running_service(database_url, tmp_path) as service:
        for headers in (
            {"Authorization": "Bearer sw_of_another_service"},
            {"Authorization": "Bearer"},
            {"Authorization": "sw_without_its_kind"},
            {"X-API-Key": "x"},
            {"X-API-Key": ""},
            {"X-API-Key": key, "Authorization": "Bearer another"},
        ):
            assert problem(service.get("/stores", headers=headers))["status"] == 401, headers
        # A proxy's own password is not ours to judge.
        sent = {"X-API-Key": key, "Authorization": "Basic dXNlcjpwYXNzd29yZA=="}
        assert service.get("/stores", headers=sent).status_code == 200


# A key that was made just now, and one that never was.

GUESSED = "sw_" + 43 * "A"


def make_at_once(database_url: str, name: str) -> str:
    """Make a key in less time than a command takes to start."""

    async def run() -> str:
        async with asyncpg.create_pool(database_url, min_size=1, max_size=1) as pool:
            return (await create_key(pool, name, "read"))[1]

    return asyncio.run(run())


def test_a_new_key_is_valid_at_once(service: Service, database_url: str) -> None:
    for name in ("one", "two", "three"):
        key = make_at_once(database_url, name)
        # Also the first one, and for whoever could not ask without.
        asked = {**bearer(key), "X-Forwarded-For": "203.0.113.7"}
        assert service.get("/stores", headers=asked).status_code == 200
        assert service.get("/stores", headers=bearer(GUESSED)).status_code == 401
        assert service.get("/stores").status_code == 401


def test_who_guesses_makes_few_queries_and_one_for_all_who_wait(database_url: str) -> None:
    asked: list[str] = []

    async def count(connection: asyncpg.Connection) -> None:
        def note(query: asyncpg.connection.LoggedQuery) -> None:
            if "from api_key" in query.query:
                asked.append(query.query)

        connection.add_query_logger(note)

    async def run() -> None:
        async with (
            asyncpg.create_pool(database_url, min_size=1) as before,
            before.acquire() as connection,
        ):
            await migrate(connection)
            _, key = await create_key(before, "ops", "read")
        async with asyncpg.create_pool(database_url, min_size=1, init=count) as pool:
            ring = KeyRing(pool)
            assert await ring.find(key)
            await asyncio.gather(*ring._noting)
            asked.clear()
            begin = time.monotonic()
            for _ in range(3):
                guesses = [f"sw_{number:043}" for number in range(200)]
                assert await asyncio.gather(*map(ring.find, guesses)) == [None] * 200
            seconds = time.monotonic() - begin
            assert 3 <= len(asked) <= seconds / 0.2 + 1
            asked.clear()
            for malformed in ("", "sw_", "x", GUESSED + "A", GUESSED[:-1], GUESSED[:-1] + "é", "ü"):
                assert await ring.find(malformed) is None
            assert asked == []

    asyncio.run(run())


def test_while_the_database_is_away_keys_are_as_they_were_and_others_cannot_be_told(
    database_url: str, postgres_server: str, tmp_path: Path
) -> None:
    key = make_key(database_url, tmp_path, "ops")
    with running_service(database_url, tmp_path) as service:
        assert service.get("/metrics", headers=bearer(key)).status_code == 200
        with database_away(database_url, postgres_server):
            assert service.get("/metrics", headers=bearer(key)).status_code == 200
            assert service.get("/metrics", headers=bearer(GUESSED)).status_code == 503
            assert service.get("/metrics", headers=bearer("sw_wrong")).status_code == 401
            assert service.get("/metrics").status_code == 401
        eventually(lambda: service.get("/stores", headers=bearer(GUESSED)).status_code == 401)
        assert service.get("/stores", headers=bearer(key)).status_code == 200


# The commands.


def test_a_key_is_shown_once_and_kept_as_a_hash(database_url: str, tmp_path: Path) -> None:
    key = make_key(database_url, tmp_path, "ops")
    assert key.startswith("sw_")
    assert len(key) == 46
    kept = str(ask(database_url, "select * from api_key"))
    listed = storewatch("keys", "list", database_url=database_url, home=tmp_path).stdout.decode()
    assert "ops" in listed
    assert key[:9] in listed
    assert key[9:] not in kept + listed


def test_a_name_is_given_to_one_key_at_a_time(database_url: str, tmp_path: Path) -> None:
    place = {"database_url": database_url, "home": tmp_path}
    make_key(database_url, tmp_path, "ops")
    again = storewatch("keys", "create", "ops", **place)  # type: ignore[arg-type]
    assert again.returncode == 2
    assert again.stderr.decode().startswith("Error: There is already a key named ops.")
    assert storewatch("keys", "revoke", "ops", **place).returncode == 0  # type: ignore[arg-type]
    unknown = storewatch("keys", "revoke", "ops", **place)  # type: ignore[arg-type]
    assert unknown.returncode == 2
    assert "ops is not the name or prefix of any valid key" in unknown.stderr.decode()
    make_key(database_url, tmp_path, "ops")


def test_the_log_has_request_ids_but_no_key_no_query_and_no_body(
    database_url: str, tmp_path: Path
) -> None:
    key = make_key(database_url, tmp_path, "ops")
    with running_service(database_url, tmp_path) as service:
        for headers in (bearer(key), {"X-API-Key": key}, bearer("wrong-secret")):
            service.get("/stores?prefix=secret-query", headers=headers)
        body = "store_id,status,timestamp_utc\nsecret-store,secret-status,x\n"
        refused = service.ask(
            "POST",
            "/polls",
            content=body,
            headers={**bearer(key), "Content-Type": "text/csv", "X-Request-ID": "from-a-proxy-1"},
        )
        assert refused.status_code == 422
        assert refused.headers["x-request-id"] == "from-a-proxy-1"
        forged = service.get("/stores", headers={**bearer(key), "X-Request-ID": 'a"b c'})
        assert forged.headers["x-request-id"] != 'a"b c'
        service.stop()
        lines = [json.loads(line) for line in service.log.splitlines()]
    assert key not in service.log
    assert "secret" not in service.log
    requests = [line for line in lines if line["logger"] == "storewatch.access"]
    assert len({line["request_id"] for line in requests}) == len(requests) >= 5
    [upload] = [line for line in requests if line["request_id"] == "from-a-proxy-1"]
    assert (upload["method"], upload["path"], upload["status"]) == ("POST", "/polls", 422)
