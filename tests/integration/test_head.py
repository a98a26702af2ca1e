"""HEAD is answered wherever GET is, like GET, but without a body."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.feeds.made_up import FeedFiles
from tests.harness.database import add_many_stores, ask, polls_locked
from tests.harness.feeds import read_stores
from tests.harness.processes import PATIENCE, eventually
from tests.harness.service import Service, problem, running_service


@pytest.fixture(scope="module")
def paths(service: Service, feed: FeedFiles) -> dict[str, str]:
    """What the parameters of paths stand for."""
    report_id = service.ask("POST", "/reports", json={"group_by": ["timezone"]}).json()["id"]
    assert service.wait_for(report_id) == "Completed"
    store = read_stores(feed)[0].store_id
    day = "2024-12-25"
    service.ask("PUT", f"/stores/{store}/special-hours/{day}", json={"closed": True})
    hour = {"from": f"{day}T10:00:00Z", "to": f"{day}T11:00:00Z", "all_stores": True}
    service.ask("POST", "/exclusions", json=[hour])
    plan = {"name": "nightly", "cron": "0 6 * * *", "timezone": "UTC", "paused": True}
    schedule = service.ask("POST", "/schedules", json=plan).json()["id"]
    [exclusion] = service.get("/exclusions").json()["items"]
    while_polled = {"to": "2024-03-14T18:00:00Z", "limit": 1}
    [outage] = service.get("/outages", params=while_polled).json()["items"]
    hook = {"url": "https://example.com/hook", "events": ["report.failed"]}
    webhook = service.ask("POST", "/webhooks", json=hook).json()["id"]
    delivery = service.ask("POST", f"/webhooks/{webhook}/test").json()["id"]
    return {
        "{store_id}": store,
        "{report_id}": report_id,
        "{slug}": "not-found",
        "{day}": day,
        "{exclusion_id}": exclusion["id"],
        "{schedule_id}": schedule,
        "{outage_id}": outage["id"],
        "{webhook_id}": webhook,
        "{delivery_id}": delivery,
    }


#: What starts something, streams, or measures.
STREAMED = ("/trigger_report", "/events", "/metrics", "{store_id}/polls")


def get_paths(service: Service, paths: dict[str, str]) -> Iterator[str]:
    """Every path that GET has and that answers alike each time."""
    for path, methods in service.get("/schema/openapi.json").json()["paths"].items():
        if "get" in methods and not path.endswith(STREAMED):
            for name, value in paths.items():
                path = path.replace(name, value)
            must = [
                f"{one['name']}={paths['{store_id}']}"
                for one in methods["get"].get("parameters", ())
                if one["in"] == "query" and one.get("required")
            ]
            yield "?".join([path, *must])
    yield from ("/", "/dashboard/app.js", "/schema", "/schema/openapi.json", "/schema/page.js")
    yield from ("/problems", "/problems/not-found")


def same_headers(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in TOLD_ANEW}


TOLD_ANEW = {"date", "x-request-id"}


def test_head_is_get_without_its_body(service: Service, paths: dict[str, str]) -> None:
    plain = {"Accept-Encoding": "identity"}
    with httpx.Client(base_url=service.base_url, timeout=PATIENCE, headers=plain) as client:
        found = list(get_paths(service, paths))
        assert len(found) > 15
        for path in found:
            got, head = client.get(path), client.head(path)  # over one connection
            assert head.status_code == got.status_code == 200, path
            assert head.content == b""
            assert same_headers(head) == same_headers(got)
            assert "content-length" in head.headers, path
        measures = client.head("/metrics")
        assert measures.headers["content-type"].startswith("text/plain")
        assert int(measures.headers["content-length"]) > 1000


def test_errors_and_conditions_are_those_of_get(service: Service, paths: dict[str, str]) -> None:
    for path in ("/nothing", "/stores/nobody", "/stores?limit=0", "/problems/nothing"):
        got, head = service.get(path), service.ask("HEAD", path)
        assert head.status_code == got.status_code >= 400
        assert same_headers(head) == same_headers(got)
    store = f"/stores/{paths['{store_id}']}"
    etag = service.ask("HEAD", store).headers["etag"]
    assert service.ask("HEAD", store, headers={"If-None-Match": etag}).status_code == 304


def test_a_path_that_get_does_not_know_refuses_head_too(service: Service) -> None:
    answer = service.ask("HEAD", "/polls")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "DELETE, OPTIONS, POST"


def test_allow_lists_head_where_get_is(service: Service) -> None:
    for path in ("/stores", "/stores/a/timezone", "/reports", "/", "/schema", "/health/live"):
        assert "HEAD" in service.ask("OPTIONS", path).headers["allow"].split(", "), path
        refused = service.ask("DELETE", path)
        assert problem(refused)["type"] == "/problems/method-not-allowed"
        assert "HEAD" in refused.headers["allow"].split(", ")
    assert service.ask("OPTIONS", "/polls").headers["allow"] == "DELETE, OPTIONS, POST"


def test_a_stream_ends_with_its_headers_and_leaves_nothing_running(
    database_url: str, tmp_path: Path
) -> None:
    add_many_stores(database_url, 10)
    with running_service(database_url, tmp_path) as service, polls_locked(database_url):
        report_id = service.ask("POST", "/reports").json()["id"]
        head = service.ask("HEAD", f"/reports/{report_id}/events")
        assert head.status_code == 200
        assert head.headers["content-type"].startswith("text/event-stream")
        # Told only when nothing of the request is left; the report has not ended.
        eventually(lambda: f"HEAD /reports/{report_id}/events 200" in service.log)
        assert service.status(report_id) == "Started"
        service.stop()
        assert "Traceback" not in service.log


def test_nothing_is_done_twice_and_the_log_and_the_measures_tell_head(
    database_url: str, tmp_path: Path
) -> None:
    add_many_stores(database_url, 10)
    with running_service(database_url, tmp_path) as service:
        assert service.ask("HEAD", "/trigger_report").status_code == 200
        assert ask(database_url, "select count(*) from report") == [(1,)]
        assert service.ask("HEAD", "/stores").status_code == 200
        eventually(lambda: "HEAD /stores 200" in service.log)
        lines = [json.loads(line) for line in service.log.splitlines()]
        [told] = [line for line in lines if line["message"] == "HEAD /stores 200"]
        assert (told["method"], told["route"]) == ("HEAD", "/stores")
        count = 'storewatch_http_request_seconds_count{method="HEAD",route="/stores",status="200"}'
        assert f"{count} 1.0" in service.get("/metrics").text
