"""Which web pages of other sites a browser lets read the answers: those of the setting."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.settings import SettingsInvalid, read_settings
from tests.harness.database import database_away
from tests.harness.processes import make_key
from tests.harness.service import Service, running_service

PAGE, OTHER = "https://shops.example", "https://evil.example"
TAKEN = (
    "Authorization, X-API-Key, Content-Type, Content-Encoding, Idempotency-Key, If-Match, "
    "If-None-Match, If-Range, Range, Last-Event-ID, X-Request-ID"
)
SHOWN = (
    "ETag, Link, Location, Retry-After, X-Request-ID, Content-Disposition, Content-Range, "
    "Deprecation, WWW-Authenticate"
)


@pytest.fixture(scope="module")
def service(
    module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Without a key, with two origins allowed."""
    home = tmp_path_factory.mktemp("service")
    origins = f"{PAGE}, http://localhost:3000"
    with running_service(module_database_url, home, STOREWATCH_CORS_ORIGINS=origins) as service:
        yield service


def listed(answer: httpx.Response, header: str) -> set[str]:
    return {one.strip().lower() for one in answer.headers[header].split(",")}


def preflight(service: Service, path: str, method: str, origin: str = PAGE) -> httpx.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type,if-match",
    }
    return service.ask("OPTIONS", path, headers=headers)


def may_read(answer: httpx.Response, origin: str = PAGE) -> bool:
    assert "Origin" in answer.headers["vary"].split(", ")
    allowed: str | None = answer.headers.get("access-control-allow-origin")
    return allowed == origin


def test_nobody_is_allowed_unless_it_is_set(database_url: str, tmp_path: Path) -> None:
    make_key(database_url, tmp_path, "ops")
    with running_service(database_url, tmp_path) as service:
        for answer in (
            service.get("/health/live", headers={"Origin": PAGE}),
            preflight(service, "/health/live", "GET"),
        ):
            assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_preflight_needs_no_key_on_any_path(database_url: str, tmp_path: Path) -> None:
    make_key(database_url, tmp_path, "ops")
    with running_service(database_url, tmp_path, STOREWATCH_CORS_ORIGINS=PAGE) as service:
        for method, path in (
            ("PUT", "/stores/a%2Fb/timezone"),  # a path with a handler of OPTIONS of its own
            ("POST", "/reports"),
            ("GET", "/metrics"),
            ("GET", "/schema/openapi.json"),
            ("DELETE", "/nothing"),
        ):
            answer = preflight(service, path, method)
            assert answer.status_code == 204
            assert may_read(answer)
            assert method.lower() in listed(answer, "access-control-allow-methods")
            assert listed(answer, "access-control-allow-headers") >= set(TAKEN.lower().split(", "))
            assert not may_read(preflight(service, path, method, OTHER))
        # OPTIONS that is no preflight is answered as ever.
        assert service.ask("OPTIONS", "/reports", headers={"Origin": PAGE}).status_code == 204


def test_answers_and_errors_can_be_read_by_an_allowed_page_alone(
    database_url: str, postgres_server: str, tmp_path: Path
) -> None:
    key = make_key(database_url, tmp_path, "ops")
    with running_service(database_url, tmp_path, STOREWATCH_CORS_ORIGINS=PAGE) as service:

        def answers(origin: str) -> dict[int, httpx.Response]:
            headers = {"Origin": origin, "X-API-Key": key}
            asked = [
                service.get("/stores", headers={"Origin": origin}),  # 401
                service.get("/stores", headers=headers),
                service.get("/stores?limit=0", headers=headers),  # 422
                service.get("/nothing", headers=headers),  # 404
                service.ask("DELETE", "/stores", headers=headers),  # 405
            ]
            with database_away(database_url, postgres_server):
                asked.append(service.get("/stores", headers=headers))  # 503
            return {answer.status_code: answer for answer in asked}

        found = answers(PAGE)
        assert sorted(found) == [200, 401, 404, 405, 422, 503]
        for answer in found.values():
            assert may_read(answer)
            assert listed(answer, "access-control-expose-headers") == set(SHOWN.lower().split(", "))
        for answer in answers(OTHER).values():
            assert not may_read(answer)


def test_caches_are_told_although_no_origin_was_sent(service: Service) -> None:
    assert not may_read(service.get("/stores"))
    packed = service.get("/dashboard/app.js", headers={"Origin": PAGE})
    assert {"origin", "accept-encoding"} <= listed(packed, "vary")


def test_without_a_key_a_listed_page_passes_the_check_of_other_sites(service: Service) -> None:
    for origin, site in ((PAGE, "cross-site"), ("http://localhost:3000", "same-site")):
        headers = {"Origin": origin, "Sec-Fetch-Site": site}
        assert service.get("/stores", headers=headers).status_code == 200
        assert service.ask("POST", "/reports", headers=headers).status_code == 202
    for refused in (
        {"Origin": OTHER, "Sec-Fetch-Site": "cross-site"},
        {"Origin": "null"},
        {"Origin": f"{PAGE}.evil.example"},
        {"Origin": f"{PAGE}:8443"},
        {"Origin": PAGE, "Host": "shops.example"},
        {"Origin": PAGE, "X-Forwarded-For": "203.0.113.7"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        assert service.get("/stores", headers=refused).status_code == 403, refused


def test_a_star_lets_any_page_read_but_not_pass_without_a_key(
    database_url: str, tmp_path: Path
) -> None:
    with running_service(database_url, tmp_path, STOREWATCH_CORS_ORIGINS="*") as service:
        for origin in (OTHER, "null", "*"):
            answer = service.get("/stores", headers={"Origin": origin})
            assert answer.status_code == 403
            assert answer.headers["access-control-allow-origin"] == "*"
        assert preflight(service, "/reports", "POST").status_code == 204


@pytest.mark.parametrize(
    "wrong", ["example.com", "https://a.example/", "https://u@a.example", "null", "https://a:x"]
)
def test_what_is_no_origin_stops_the_start(wrong: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"STOREWATCH_CORS_ORIGINS=.* is not an origin"):
        read_settings({"STOREWATCH_CORS_ORIGINS": f"{PAGE},{wrong}"})
