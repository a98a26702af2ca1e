"""The state of a store at an instant, and its outages, over HTTP."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from tests.harness.database import ask
from tests.harness.service import Service, problem

MONDAY = datetime(2023, 1, 23, tzinfo=UTC)
MONDAY_DAY = MONDAY.toordinal() - datetime(1970, 1, 1, tzinfo=UTC).toordinal()


@pytest.fixture
def store() -> str:
    return str(uuid4())


def at(hours: float) -> str:
    """So many hours after Monday began."""
    return (MONDAY + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")


def poll(service: Service, store: str, *polls: tuple[str, str]) -> None:
    rows = [
        {"store_id": store, "timestamp_utc": instant, "status": status} for instant, status in polls
    ]
    answer = service.ask("POST", "/polls", json=rows)
    assert answer.status_code == 200, answer.text


def open_daily(service: Service, store: str, start: str, end: str) -> None:
    rows = [{"day": day, "start_time_local": start, "end_time_local": end} for day in range(7)]
    assert service.ask("PUT", f"/stores/{store}/business-hours", json=rows).status_code == 200
    zone = service.ask("PUT", f"/stores/{store}/timezone", json={"timezone": "UTC"})
    assert zone.status_code == 200


def told(service: Service, path: str, **query: Any) -> dict[str, Any]:
    answer = service.get(path, params=query)
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return content


def edges(told: dict[str, Any]) -> list[dict[str, Any]]:
    """The outages of an answer, without ids and notes."""
    names = "start", "end", "duration", "open", "restored"
    return [{name: one[name] for name in names} for one in told["items"]]


def state(service: Service, store: str, hours: float, **query: Any) -> tuple[str, str | None]:
    found = told(service, f"/stores/{store}/state", as_of=at(hours), **query)
    assert found["as_of"] == at(hours)
    return found["state"], found["since"]


@pytest.fixture
def overnight(empty_service: Service, store: str) -> str:
    """Open 09 to 17; down from Monday 16:30 to Tuesday 10:00, and from Tuesday 15:00 on."""
    open_daily(empty_service, store, "09:00", "17:00")
    poll(
        empty_service,
        store,
        *((at(16), "active"), (at(16.5), "inactive"), (at(33), "inactive"), (at(34), "active")),
        *((at(39), "inactive"),),
    )
    return store


def test_a_store_is_closed_down_up_and_unknown_since_then(
    empty_service: Service, overnight: str
) -> None:
    assert state(empty_service, overnight, 23) == ("closed", at(17))
    assert state(empty_service, overnight, 33.5) == ("down", at(16.5))
    assert state(empty_service, overnight, 35) == ("up", at(34))
    assert state(empty_service, overnight, 36, max_gap="90m") == ("unknown", at(35.5))
    assert state(empty_service, overnight, 24 * 365) == ("closed", at(24 * 364 + 17))


def test_excluded_time_is_a_state(empty_service: Service, overnight: str) -> None:
    body = {"store_ids": [overnight], "from": at(33.25), "to": at(33.75), "reason": "a power cut"}
    assert empty_service.ask("POST", "/exclusions", json=[body]).status_code == 200
    assert state(empty_service, overnight, 33.5) == ("excluded", at(33.25))
    found = told(empty_service, f"/stores/{overnight}/outages", to=at(35))
    assert [one["duration"] for one in found["items"]] == [3600]


def test_the_newest_poll_and_its_age_are_told_even_of_closed_time(
    empty_service: Service, overnight: str
) -> None:
    poll(empty_service, overnight, (at(20), "active"))
    found = told(empty_service, f"/stores/{overnight}/state", as_of=at(21))
    assert found["newest_poll"] == {"timestamp_utc": at(20), "status": "active"}
    assert found["newest_poll_age"] == 3600
    assert found["state"] == "closed"


def test_the_state_is_that_of_now_unless_another_instant_is_asked_for(
    empty_service: Service, store: str
) -> None:
    now = datetime.now(UTC)
    poll(empty_service, store, ((now - timedelta(minutes=5)).isoformat(), "inactive"))
    found = told(empty_service, f"/stores/{store}/state")
    assert now <= datetime.fromisoformat(found["as_of"]) + timedelta(milliseconds=1)
    assert found["state"] == "down"
    assert found["newest_poll_age"] >= 299
    outages = told(empty_service, f"/stores/{store}/outages", open="true")
    assert [one["open"] for one in outages["items"]] == [True]
    assert outages["items"][0]["start"] == found["since"]


def test_of_a_store_without_polls_nothing_has_a_beginning(
    empty_service: Service, store: str
) -> None:
    assert empty_service.ask("PUT", f"/stores/{store}/timezone", json={"timezone": "UTC"})
    found = told(empty_service, f"/stores/{store}/state")
    assert [found[name] for name in ("state", "since", "newest_poll", "newest_poll_age")] == [
        *("unknown", None, None, None)
    ]
    outages = told(empty_service, f"/stores/{store}/outages")
    assert [outages[name] for name in ("count", "longest", "mean_time_to_restore", "items")] == [
        *(0, None, None, [])
    ]


@pytest.mark.parametrize("days", [9, 300], ids=["beyond the near days", "months ago"])
def test_a_beginning_of_long_ago_is_found(empty_service: Service, store: str, days: int) -> None:
    poll(
        empty_service,
        store,
        (at(0), "active"),
        *((at(24 * day + 1), "inactive") for day in range(days)),
    )
    assert state(empty_service, store, 24 * days, max_gap="25h") == ("down", at(1))


def test_one_of_longer_than_400_days_ago_is_none(empty_service: Service, store: str) -> None:
    poll(empty_service, store, *((at(24 * day), "inactive") for day in range(0, 420, 20)))
    assert state(empty_service, store, 24 * 401, max_gap="31d") == ("down", None)
    found = told(
        empty_service, f"/stores/{store}/outages", to=at(24 * 401), max_gap="31d", open="true"
    )
    (only,) = found["items"]
    assert (only["start"], only["duration"]) == (None, 400 * 86_400)


def test_of_too_many_polls_only_the_nearest_are_read(
    empty_service: Service, module_database_url: str, store: str
) -> None:
    poll(empty_service, store, (at(0), "inactive"))
    # Inactive from midnight on, every tenth of a second: 5,001 polls on each of 401 days.
    words = np.arange(5001, dtype="<i4") * 200
    ask(
        module_database_url,
        """
        insert into poll_day select id, day, $2 from store, generate_series($3::int, $4::int) as day
        where store_id = $1
        """,
        *(store, words.tobytes(), MONDAY_DAY + 1, MONDAY_DAY + 401),
    )
    query = {"as_of": at(24 * 401 + 1), "max_gap": "25h"}
    found = told(empty_service, f"/stores/{store}/state", **query)
    assert (found["state"], found["since"]) == ("down", None)
    path = f"/stores/{store}/outages"
    (only,) = told(empty_service, path, **query, **{"from": at(24 * 400)})["items"]
    # Eight days before `from` are looked at as well.
    assert (only["start"], only["duration"], only["open"]) == (None, (8 * 24 + 25) * 3600, True)
    refused = empty_service.get(path, params={**query, "from": at(25)})
    assert refused.status_code == 422
    assert "polls" in problem(refused)["detail"]


def test_outages_are_told_as_a_whole_with_their_statistics(
    empty_service: Service, overnight: str
) -> None:
    path = f"/stores/{overnight}/outages"
    first = {
        "start": at(16.5),
        "end": at(34),
        "duration": 5400,
        "open": False,
        "restored": True,
    }
    second = {"start": at(39), "end": at(40), "duration": 3600, "open": True, "restored": False}
    both = told(empty_service, path, **{"from": at(33), "to": at(40)})
    assert edges(both) == [first, second]
    assert [both[name] for name in ("count", "longest", "mean_time_to_restore")] == [2, 5400, 5400]
    assert (both["from"], both["to"], both["as_of"], both["max_gap"]) == (
        *(at(33), at(40), at(40), "24h"),
    )
    # The window lies in the night between: the outage reaches over it.
    night = told(empty_service, path, **{"from": at(20), "to": at(21), "as_of": at(40)})
    assert edges(night) == [first]
    then = told(empty_service, path, **{"from": at(20), "to": at(21)})
    assert [(one["end"], one["open"]) for one in then["items"]] == [(at(17), True)]
    none = told(empty_service, path, **{"from": at(34), "to": at(39), "as_of": at(40)})
    assert none["items"] == []


def test_outages_are_filtered(empty_service: Service, overnight: str) -> None:
    path, to = f"/stores/{overnight}/outages", at(40)
    for query, durations in (
        ({"open": "true"}, [3600]),
        ({"min_duration": "90m"}, [5400]),
        ({"min_duration": "91m"}, []),
        ({"open": "true", "min_duration": "61m"}, []),
    ):
        found = told(empty_service, path, to=to, **query)
        assert [one["duration"] for one in found["items"]] == durations
        assert found["count"] == len(durations)


def test_an_outage_that_ends_in_silence_was_not_restored(
    empty_service: Service, store: str
) -> None:
    poll(empty_service, store, (at(10), "inactive"))
    found = told(empty_service, f"/stores/{store}/outages", to=at(20), max_gap="2h")
    assert edges(found) == [
        {"start": at(10), "end": at(12), "duration": 7200, "open": False, "restored": False}
    ]
    assert found["mean_time_to_restore"] is None


def test_what_is_told_of_a_store_has_the_same_tag_whatever_its_state(
    empty_service: Service, overnight: str
) -> None:
    path = f"/stores/{overnight}"
    tag = empty_service.get(path).headers["etag"]
    told(empty_service, f"{path}/state")
    assert empty_service.get(path, headers={"If-None-Match": tag}).status_code == 304


@pytest.mark.parametrize("instant", ["1970-01-01T00:00:00Z", "9998-12-31T23:59:59Z"])
def test_the_first_and_the_last_instant_have_a_state(
    empty_service: Service, overnight: str, instant: str
) -> None:
    found = told(empty_service, f"/stores/{overnight}/state", as_of=instant, max_gap="31d")
    assert (found["as_of"], found["state"]) == (instant, "closed")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"as_of": "soon"}, "as_of"),
        ({"max_gap": "32d"}, "max_gap"),
        ({"from": "2023-01-24", "to": "2023-01-23"}, "to"),
        ({"from": at(2), "to": at(1)}, "from"),
        ({"from": at(0), "to": at(24 * 401)}, "from"),
        ({"min_duration": "long"}, "min_duration"),
        ({"open": "perhaps"}, "open"),
    ],
    ids=lambda value: value if isinstance(value, str) else "&".join(value),
)
def test_what_cannot_be_asked_is_refused_by_name(
    empty_service: Service, overnight: str, query: dict[str, str], field: str
) -> None:
    answer = empty_service.get(f"/stores/{overnight}/outages", params=query)
    assert answer.status_code == 422
    assert field in [error["field"] for error in problem(answer)["errors"]]


@pytest.mark.parametrize("kind", ["state", "outages"])
def test_a_store_that_nobody_named_has_none(empty_service: Service, kind: str) -> None:
    answer = empty_service.get(f"/stores/{uuid4()}/{kind}")
    assert answer.status_code == 404
    assert problem(answer)["type"] == "/problems/store-not-found"
