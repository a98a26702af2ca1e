"""Served below a path of a proxy: every link carries the prefix, and who may tell it is settled."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from service.settings import SettingsInvalid, read_settings
from tests.harness.database import add_many_stores
from tests.harness.processes import PATIENCE, eventually
from tests.harness.service import Service, problem, running_service

SET = "/storewatch"


@pytest.fixture(scope="module")
def service(
    module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Below /storewatch; no proxy is trusted."""
    add_many_stores(module_database_url, 5)
    home = tmp_path_factory.mktemp("service")
    with running_service(module_database_url, home, STOREWATCH_ROOT_PATH=f"{SET}/") as service:
        yield service


@pytest.fixture(scope="module")
def behind_proxy(
    module_database_url: str, service: Service, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Below /storewatch, unless the proxy on this machine tells another prefix."""
    home = tmp_path_factory.mktemp("behind")
    more = {"STOREWATCH_ROOT_PATH": SET, "STOREWATCH_TRUSTED_PROXIES": "10.0.0.0/8, 127.0.0.1"}
    with running_service(module_database_url, home, **more) as behind:
        yield behind


def links(service: Service, headers: dict[str, str], kept: str = "") -> list[str]:
    """All links that the service writes.

    Args:
        service: running
        headers: of every request
        kept: a prefix that a proxy leaves on the paths
    """

    def ask(method: str, path: str, **more: Any) -> httpx.Response:
        return service.ask(method, kept + path, headers=headers, **more)

    made = ask("POST", "/reports")
    assert made.status_code == 202, made.text
    url = f"{service.base_url}{kept}/reports/{made.json()['id']}/events"
    with httpx.stream("GET", url, headers=headers, timeout=PATIENCE) as events:
        data = next(line for line in events.iter_lines() if line.startswith("data:"))
    page = ask("GET", "/stores?limit=1")
    old = ask("GET", f"/get_report/{uuid4()}")
    document = ask("GET", "/schema/openapi.json").json()
    kind = ask("GET", "/problems/not-found", params={}).text
    return [
        made.headers["location"],
        *made.json()["links"].values(),
        *json.loads(data.removeprefix("data:"))["links"].values(),
        page.links["next"]["url"],
        old.links["deprecation"]["url"],
        old.links["successor-version"]["url"],
        problem(ask("GET", "/nothing"))["type"],
        document["servers"][0]["url"] + "/",
        ask("GET", "/schema/").headers["location"],
        *(part.partition('"')[0] for part in kind.split('<a href="')[1:]),
    ]


def test_every_link_carries_the_prefix_whether_the_proxy_takes_it_off_or_not(
    service: Service,
) -> None:
    for kept in ("", SET):
        found = links(service, {}, kept)
        assert len(found) > 12
        for place in found:
            assert place.startswith(f"{SET}/"), place
            assert not place.startswith(SET * 2)


def test_a_link_leads_on_as_it_is(service: Service) -> None:
    page = service.get("/stores?limit=2&prefix=store")
    following = service.get(page.links["next"]["url"])
    assert following.json()["items"][0]["store_id"] == "store-000003"
    store = service.get(f"{SET}/stores/a%2Fb")  # an id with a slash stays one
    assert problem(store)["type"] == f"{SET}/problems/store-not-found"


def test_the_prefix_alone_leads_to_the_page_whose_references_are_relative(
    service: Service,
) -> None:
    answer = service.get(f"{SET}?a=b")
    assert (answer.status_code, answer.headers["location"]) == (308, f"{SET}/?a=b")
    page = service.get(f"{SET}/")
    assert page.status_code == 200
    assert 'src="dashboard/app.js"' in page.text
    assert service.get(f"{SET}/dashboard/app.js").status_code == 200
    assert service.get(f"{SET}hes").status_code == 404


def test_a_trusted_proxy_tells_the_prefix(behind_proxy: Service) -> None:
    for told in ("/teams/blue", "/teams/blue/"):
        for kept in ("", "/teams/blue"):
            for place in links(behind_proxy, {"X-Forwarded-Prefix": told}, kept):
                assert place.startswith("/teams/blue/"), place
    assert all(place.startswith(f"{SET}/") for place in links(behind_proxy, {}))
    bare = links(behind_proxy, {"X-Forwarded-Prefix": "/"})
    assert not [place for place in bare if place.startswith(SET)]


@pytest.mark.parametrize(
    "hostile",
    [
        "//evil.example",
        "https://evil.example",
        "/a//b",
        "/..",
        "/a/../b",
        "/.",
        '/a"><script>',
        "/a'b",
        "/a>; rel=next, <x",
        "/a\tb",
        "/a%0d%0aX: y",
        "/a\\b",
        "/a?b",
        "/a#b",
        "/ä",
        "a",
        "/a, /b",
        "/" + "a" * 300,
        "",
    ],
)
def test_a_prefix_that_could_do_harm_is_left_alone(behind_proxy: Service, hostile: str) -> None:
    headers = [(b"X-Forwarded-Prefix", hostile.encode())]
    answer = behind_proxy.get("/nothing", headers=headers)
    assert problem(answer)["type"] == f"{SET}/problems/not-found"


def test_nobody_else_tells_the_prefix(service: Service) -> None:
    answer = service.get("/nothing", headers={"X-Forwarded-Prefix": "/evil"})
    assert problem(answer)["type"] == f"{SET}/problems/not-found"


def test_of_two_prefixes_none_counts(behind_proxy: Service) -> None:
    headers = [("X-Forwarded-Prefix", "/a"), ("X-Forwarded-Prefix", "/b")]
    answer = behind_proxy.get("/nothing", headers=headers)
    assert problem(answer)["type"] == f"{SET}/problems/not-found"


def test_a_prefix_like_a_path_of_the_service_hides_none_of_its_paths(
    behind_proxy: Service,
) -> None:
    headers = {"X-Forwarded-Prefix": "/stores"}
    answer = behind_proxy.get("/stores/store-000001", headers=headers)
    assert answer.json()["store_id"] == "store-000001"
    assert problem(behind_proxy.get("/nothing", headers=headers))["type"].startswith("/stores/")


def test_log_and_measures_know_the_route_whatever_the_prefix(service: Service) -> None:
    path = f"{SET}/stores/store-000002"
    assert service.get(path).status_code == 200
    eventually(lambda: f"GET {path} 200" in service.log)
    lines = [json.loads(line) for line in service.log.splitlines()]
    [told] = [line for line in lines if line.get("path") == path]
    assert told["route"] == "/stores/{store_id}"
    assert service.get(f"{SET}/health/live").status_code == 200
    assert service.get("/nothing").status_code == 404
    eventually(lambda: "GET /nothing 404" in service.log)
    assert f"{SET}/health/live" not in service.log  # as quiet as without the prefix


@pytest.mark.parametrize(
    ("variable", "wrong"),
    [
        ("ROOT_PATH", "storewatch"),
        ("ROOT_PATH", "//evil.example"),
        ("ROOT_PATH", "/a/../b"),
        ("ROOT_PATH", "https://example.com/a"),
        ("TRUSTED_PROXIES", "proxy.internal"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
    ],
)
def test_a_wrong_value_stops_the_start(variable: str, wrong: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match=f"STOREWATCH_{variable}={wrong}: "):
        read_settings({f"STOREWATCH_{variable}": wrong})
