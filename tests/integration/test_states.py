"""The states of all stores over HTTP: listed, counted, and their changes as events."""

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.harness.database import ask
from tests.harness.processes import eventually
from tests.harness.service import Service, problem, running_service


@pytest.fixture(scope="module")
def service(
    module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """One that looks at all stores every second."""
    home = tmp_path_factory.mktemp("service")
    with running_service(module_database_url, home, STOREWATCH_STATE_EVERY="1s") as service:
        yield service


@pytest.fixture
def region(service: Service) -> str:
    """A tag that the test has for itself: its stores `…-up`, `…-down` and `…-closed`."""
    value = uuid4().hex
    rows = [{"store_id": f"{value}-{state}", "tags": {"region": value}} for state in STATES]
    assert service.ask("POST", "/stores", json=rows).status_code == 200
    closed = f"/stores/{value}-closed/business-hours?valid_from=2020-01-01"
    assert service.ask("PUT", closed, json=[]).status_code == 200
    for state in ("up", "down"):
        poll(service, f"{value}-{state}", state == "up", minutes=10)
    eventually(lambda: counts(service, value) == {"up": 1, "down": 1, "closed": 1})
    return value


STATES = ("up", "down", "closed")


def poll(service: Service, store: str, active: bool, minutes: float = 0) -> datetime:
    """A poll of so many minutes ago; its instant."""
    instant = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=minutes)
    row = {
        "store_id": store,
        "timestamp_utc": instant.isoformat(),
        "status": "active" if active else "inactive",
    }
    assert service.ask("POST", "/polls", json=[row]).status_code == 200
    return instant


def told(service: Service, path: str, **query: Any) -> Any:
    answer = service.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def counts(service: Service, region: str) -> dict[str, int]:
    """The stores of a region by state, without those in which none is."""
    groups = told(service, "/state/summary", by="region")["groups"]
    (group,) = (one for one in groups if one["value"] == region)
    assert group.pop("stores") == 3
    return {state: count for state, count in group.items() if count and state != "value"}


def ids(service: Service, region: str, **query: Any) -> list[str]:
    found = told(service, "/stores", tag=f"region:{region}", **query)["items"]
    return [store["store_id"].rpartition("-")[2] for store in found]


@contextmanager
def events(service: Service, last: str | None = None, **query: Any) -> Iterator[Iterator[Any]]:
    """Event, id and data as they come, without comments."""
    headers = {} if last is None else {"Last-Event-ID": last}
    url = f"{service.base_url}/events"
    with httpx.stream("GET", url, params=query, headers=headers, timeout=60) as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        yield _events(answer.iter_lines())


def _events(lines: Iterator[str]) -> Iterator[tuple[str, str, Any]]:
    event: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            event[name] = value
        else:
            yield event.get("event", ""), event.get("id", ""), json.loads(event.get("data", "{}"))
            event = {}


def test_stores_are_listed_by_their_state_with_since_and_newest_poll(
    service: Service, region: str
) -> None:
    for state in STATES:
        assert ids(service, region, state=state) == [state]
    assert ids(service, region, state="excluded") == []
    page = told(service, "/stores", prefix=region, state="down")
    (down,) = page["items"]
    assert down["newest_poll"] == {"timestamp_utc": down["since"], "status": "inactive"}
    looked_at, polled = map(datetime.fromisoformat, (page["state_as_of"], down["since"]))
    assert down["newest_poll_age"] == (looked_at - polled).total_seconds()
    assert down["newest_poll_age"] >= 600
    alone = told(service, f"/stores/{region}-down/state")
    assert (alone["state"], alone["since"]) == (down["state"], down["since"])
    listed = told(service, "/stores", prefix=region)["items"]
    assert [store["state"] for store in listed] == ["closed", "down", "up"]
    closed = next(store for store in listed if store["state"] == "closed")
    assert [closed[name] for name in ("newest_poll", "newest_poll_age")] == [None, None]
    assert down in [{**store, "newest_poll_age": down["newest_poll_age"]} for store in listed]
    assert service.get("/stores", params={"state": "broken"}).status_code in (400, 422)


def test_a_page_of_stores_in_a_state_leads_to_the_next(service: Service, region: str) -> None:
    poll(service, f"{region}-closed", True)
    for name in ("up", "down"):
        poll(service, f"{region}-{name}", False)
    eventually(lambda: ids(service, region, state="down") == ["down", "up"])
    first = told(service, "/stores", prefix=region, state="down", limit=1)
    second = told(
        *(service, "/stores"), prefix=region, state="down", limit=1, cursor=first["next_cursor"]
    )
    assert [one["store_id"] for one in second["items"]] == [f"{region}-up"]
    assert second["next_cursor"] is None


def test_stores_are_counted_all_together_by_a_tag_and_by_zone(
    service: Service, region: str
) -> None:
    summary = told(service, "/state/summary")
    assert (summary["by"], summary["groups"]) == (None, None)
    everybody = summary["counts"]
    assert everybody.pop("stores") == sum(everybody.values())
    assert datetime.now(UTC) - datetime.fromisoformat(summary["as_of"]) < timedelta(minutes=1)
    zones = told(service, "/state/summary", by="timezone")["groups"]
    assert [one["value"] for one in zones] == ["America/Chicago"]
    assert zones[0]["up"] >= 1


def test_a_tag_with_too_many_values_is_refused(service: Service) -> None:
    key = uuid4().hex
    rows = [{"store_id": f"{key}-{value}", "tags": {key: str(value)}} for value in range(1001)]
    assert service.ask("POST", "/stores", json=rows).status_code == 200
    answer = service.get("/state/summary", params={"by": key})
    assert answer.status_code == 422
    assert "1000 values" in problem(answer)["detail"]


def test_a_change_is_told_as_it_happens_and_again_after_the_last_id(
    service: Service, region: str
) -> None:
    store = f"{region}-up"
    with events(service, tag=f"region:{region}") as stream:
        assert next(stream)[0] == ""  # the stream is open
        polled = poll(service, store, False)
        name, change, data = next(stream)
        assert name == "state"
        assert datetime.fromisoformat(data.pop("as_of")) >= polled
        assert data == {
            "store_id": store,
            "before": "up",
            "state": "down",
            "since": polled.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        poll(service, store, True, minutes=-0.001)
        assert next(stream)[2]["state"] == "up"
    with events(service, last=change, tag=f"region:{region}") as stream:
        assert [next(stream)[2].get("state") for _ in range(2)] == [None, "up"]
    with events(service, last=str(int(change) - 1), state="down") as stream:
        next(stream)
        assert next(stream)[1] == change


@pytest.mark.parametrize("last", ["9" * 19, "9" * 30, "x", "-1"], ids=lambda one: one[:2])
def test_an_id_that_is_none_of_ours_is_told_as_missed(service: Service, last: str) -> None:
    with events(service, last=last) as stream:
        place = next(stream)[1]
        assert next(stream) == ("missed", place, {})


def test_what_is_no_longer_kept_is_told_as_missed(
    service: Service, module_database_url: str, region: str
) -> None:
    poll(service, f"{region}-up", False)
    eventually(lambda: ids(service, region, state="down") == ["down", "up"])
    newest = ask(module_database_url, "select max(id) from state_change")[0][0]
    ask(module_database_url, "update state_change set as_of = as_of - 25 * 3600000")
    eventually(lambda: ask(module_database_url, "select forgotten from state_round") == [(newest,)])
    with events(service, last=str(newest - 1)) as stream:
        assert next(stream)[1] == str(newest)
        assert next(stream)[:2] == ("missed", str(newest))
    with events(service, last=str(newest), tag=f"region:{region}") as stream:
        next(stream)
        poll(service, f"{region}-up", True, minutes=-0.001)
        assert next(stream)[0] == "state"


def test_metrics_tell_how_many_stores_are_in_which_state(service: Service, region: str) -> None:
    text = service.get("/metrics").text
    assert 'storewatch_stores_by_state{state="down"}' in text


def test_streams_share_one_bound_and_end_with_the_service(
    module_database_url: str, tmp_path: Path
) -> None:
    limits = {"STOREWATCH_CONNECTIONS": "6", "STOREWATCH_STATE_EVERY": "1s"}
    with (
        running_service(module_database_url, tmp_path, **limits) as service,
        ExitStack() as open_,
    ):
        streams = [open_.enter_context(events(service)) for _ in range(3)]
        assert [next(stream)[0] for stream in streams] == [""] * 3
        refused = service.get("/events")
        assert problem(refused)["type"].endswith("too-many-streams")
        assert "/state/summary" in refused.json()["detail"]
        service.send(signal.SIGTERM)
        for stream in streams:
            list(stream)  # ends without an error
        service.wait()
    assert "Traceback" not in service.log
