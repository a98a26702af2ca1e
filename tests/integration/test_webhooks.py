"""Endpoints over HTTP, and what the service itself tells them of its reports."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from standardwebhooks import Webhook

from service.feeds.made_up import FeedFiles
from service.webhooks.table import MOST_WEBHOOKS
from tests.harness.database import ask
from tests.harness.feeds import ingest
from tests.harness.processes import eventually
from tests.harness.receivers import Receiver, Reply, receiving
from tests.harness.service import Service, problem, running_service

PUBLIC = "https://stores.example.com/storewatch"


@pytest.fixture(scope="module")
def service(
    module_database_url: str, feed: FeedFiles, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service that may send to this machine, and links to itself from outside."""
    home = tmp_path_factory.mktemp("service")
    ingest(feed, database_url=module_database_url, home=home)
    with running_service(
        module_database_url,
        home,
        STOREWATCH_WEBHOOK_NETWORKS="127.0.0.0/8",
        STOREWATCH_PUBLIC_URL=f"{PUBLIC}/",
    ) as service:
        yield service


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def make(service: Service, url: str, **more: Any) -> dict[str, Any]:
    """Make an endpoint; as it is told, with its secret."""
    body = {"url": url, "events": ["store.down"], **more}
    answer = service.ask("POST", "/webhooks", json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    assert answer.headers["Location"] == f"/webhooks/{made['id']}"
    assert answer.headers["Cache-Control"] == "no-store"
    return made


def path_of(made: dict[str, Any]) -> str:
    return f"/webhooks/{made['id']}"


def verified(made: dict[str, Any], receiver: Receiver, kind: str) -> list[Any]:
    """The data of what came of one kind; the signature of each is right."""
    secret = Webhook(made["secret"])
    return [secret.verify(got.body, got.headers)["data"] for got in receiver.of_kind(kind)]


def test_an_endpoint_is_made_told_changed_and_deleted(service: Service) -> None:
    made = make(
        service,
        "https://example.com/hook?token=abc",
        events=["store.up", "store.down"],
        tags=["region:west", "region:west"],
        down_for="15m",
    )
    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    told = service.get(path_of(made))
    assert told.json() == made
    assert made["events"] == ["store.down", "store.up"]
    assert (made["down_for"], made["silent_for"], made["tags"]) == ("15m", "3h", ["region:west"])
    assert (made["paused"], made["waiting"], made["dropped"]) == (False, 0, 0)

    tag = told.headers["ETag"]
    changes = {"down_for": "1h", "paused": True, "description": "on call"}
    changed = service.ask("PATCH", path_of(made), json=changes, headers={"If-Match": tag})
    assert changed.json() == made | changes
    late = service.ask("PATCH", path_of(made), json={}, headers={"If-Match": tag})
    assert late.status_code == 412
    assert changed.headers["ETag"] != tag

    assert service.ask("DELETE", path_of(made)).status_code == 204
    gone = service.get(path_of(made))
    assert problem(gone)["type"] == "/problems/webhook-not-found"
    assert service.ask("DELETE", path_of(made)).status_code == 404


def test_endpoints_are_listed_in_order_page_by_page_without_secrets(service: Service) -> None:
    made = [make(service, f"https://example.com/{uuid4()}") for _ in range(3)]
    found: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        page = service.get("/webhooks", params=query)
        assert "whsec_" not in page.text
        assert "secret" not in page.json()["items"][0]
        found += page.json()["items"]
        if page.json()["next_cursor"] is None:
            break
        query["cursor"] = page.json()["next_cursor"]
    ids = [one["id"] for one in found]
    assert [one for one in ids if one in {one["id"] for one in made}] == [one["id"] for one in made]
    for one in made:
        service.ask("DELETE", path_of(one))


@pytest.mark.parametrize(
    ("wrong", "field", "told"),
    [
        ({"url": "http://169.254.169.254/"}, "url", "is not a public address"),
        ({"url": "http://[fe80::1]/"}, "url", "is not a public address"),
        ({"url": "https://me:secret@example.com"}, "url", "has a user or a password"),
        ({"events": []}, "events", "length >= 1"),
        ({"events": ["store.sold"]}, "events[0]", "Invalid enum value"),
        ({"down_for": "25h"}, "down_for", "is longer than 24h"),
        ({"silent_for": "30s"}, "silent_for", "is shorter than 1m"),
        ({"tags": ["west"]}, "tags", "is not `key:value`"),
        ({"secret": "whsec_mine"}, None, "unknown field"),
    ],
    ids=str,
)
def test_what_is_wrong_with_an_endpoint_is_told(
    service: Service, wrong: dict[str, Any], field: str | None, told: str
) -> None:
    body = {"url": "https://example.com/", "events": ["store.down"], **wrong}
    answer = service.ask("POST", "/webhooks", json=body)
    assert answer.status_code == 422
    (error,) = problem(answer)["errors"]
    assert told in error["problem"]
    assert field is None or error["field"] == field


def test_a_request_that_is_sent_again_makes_no_second_endpoint(service: Service) -> None:
    made = make(service, "https://example.com/again")
    body = {"url": made["url"], "events": made["events"]}
    again = service.ask("POST", "/webhooks", json=body)
    assert problem(again)["type"] == "/problems/webhook-exists"
    assert made["id"] in problem(again)["detail"]
    service.ask("DELETE", path_of(made))


def test_there_are_only_so_many_endpoints(service: Service, module_database_url: str) -> None:
    ask(
        module_database_url,
        """
        insert into webhook (id, url, description, events, tags, down_for, silent_for, paused,
                             secret)
        select gen_random_uuid(), 'https://example.com/' || n, 'of many', '{}', '{}', 0, 60000,
            true, 'secret'
        from generate_series(1, $1::integer) as n
        """,
        MOST_WEBHOOKS,
    )
    body = {"url": "https://example.com/", "events": ["store.up"]}
    answer = service.ask("POST", "/webhooks", json=body)
    assert problem(answer)["type"] == "/problems/too-many-webhooks"
    ask(module_database_url, "delete from webhook where description = 'of many'")


def delivered(service: Service, made: dict[str, Any], delivery: dict[str, Any]) -> dict[str, Any]:
    """Wait until a delivery is over or waits for its next attempt; with what was sent."""
    path = f"{path_of(made)}/deliveries/{delivery['id']}"

    def tried() -> bool:
        known = service.get(path).json()
        return bool(known["finished_at"] or known["error"])

    eventually(tried)
    known: dict[str, Any] = service.get(path).json()
    return known


def test_an_event_can_be_tried_out_looked_up_and_sent_again(
    service: Service, receiver: Receiver
) -> None:
    made = make(service, receiver.url)
    receiver.reply = Reply(500, body=b"not yet")
    asked = service.ask("POST", f"{path_of(made)}/test")
    assert asked.status_code == 202
    delivery = delivered(service, made, asked.json())
    assert (delivery["state"], delivery["status"], delivery["answer"]) == (
        "waiting",
        500,
        "not yet",
    )
    assert delivery["next_attempt"] > delivery["attempted_at"]
    assert "not_yet" not in service.get(path_of(made)).text
    assert service.get(path_of(made)).json()["failing_since"] is not None

    receiver.reply = Reply(200)
    path = f"{path_of(made)}/deliveries/{delivery['id']}"
    for tries in (2, 3):  # it waits, then it is over
        assert service.ask("POST", f"{path}/replay").status_code == 202
        assert len(receiver.wait_for(tries)) == tries
        eventually(lambda: service.get(path).json()["state"] == "delivered")
    assert service.get(path_of(made)).json()["failing_since"] is None
    assert {got.id for got in receiver.received} == {delivery["id"]}
    assert {got.body for got in receiver.received} == {delivery["payload"].encode()}
    verified(made, receiver, "webhook.test")

    second = delivered(service, made, service.ask("POST", f"{path_of(made)}/test").json())
    listed = service.get(f"{path_of(made)}/deliveries", params={"state": "delivered", "limit": 1})
    assert [one["id"] for one in listed.json()["items"]] == [second["id"]]
    assert "payload" not in listed.json()["items"][0]
    more = {"state": "delivered", "limit": 1, "cursor": listed.json()["next_cursor"]}
    rest = service.get(f"{path_of(made)}/deliveries", params=more).json()
    assert [one["id"] for one in rest["items"]] == [delivery["id"]]
    assert rest["next_cursor"] is None
    none = service.get(f"{path_of(made)}/deliveries", params={"state": "failed"}).json()
    assert none["items"] == []
    for missing in (f"{path_of(made)}/deliveries/{uuid4()}", f"/webhooks/{uuid4()}/deliveries"):
        assert service.get(missing).status_code == 404
    service.ask("DELETE", path_of(made))


def test_a_secret_is_rotated_and_never_told_again(service: Service, receiver: Receiver) -> None:
    made = make(service, receiver.url)
    rotated = service.ask("POST", f"{path_of(made)}/rotate-secret", json={"overlap": "1h"})
    assert rotated.status_code == 200
    assert rotated.headers["Cache-Control"] == "no-store"
    assert rotated.json()["old_secret_ends"] is not None
    service.ask("POST", f"{path_of(made)}/test")
    receiver.wait_for(1)
    verified(made, receiver, "webhook.test")
    verified(made | rotated.json(), receiver, "webhook.test")
    alone = service.ask("POST", f"{path_of(made)}/rotate-secret", json={"overlap": "0s"}).json()
    assert alone["old_secret_ends"] is None
    long = service.ask("POST", f"{path_of(made)}/rotate-secret", json={"overlap": "8d"})
    assert problem(long)["errors"][0]["field"] == "overlap"
    secrets = [one["secret"].removeprefix("whsec_") for one in (made, rotated.json(), alone)]
    assert len(set(secrets)) == 3
    told = service.get(path_of(made)).text + service.get("/webhooks").text + service.log
    assert not [secret for secret in secrets if secret in told]
    service.ask("DELETE", path_of(made))


def ended(service: Service, **asked: Any) -> dict[str, Any]:
    """A report that has ended."""
    answer = service.ask("POST", "/reports", json=asked)
    assert answer.status_code == 202, answer.text
    path = answer.headers["Location"]
    eventually(lambda: service.get(path).json()["status"] in ("completed", "failed"))
    report: dict[str, Any] = service.get(path).json()
    return report


def test_reports_that_end_are_told_to_those_who_want_it(
    service: Service, receiver: Receiver
) -> None:
    with receiving() as other:
        made = make(
            service, receiver.url, events=["report.completed", "report.failed", "target.missed"]
        )
        stores_only = make(service, other.url, events=["store.down", "store.up", "store.silent"])
        report = ended(service, target="0.999")
        receiver.wait_for(2)
        (told,) = verified(made, receiver, "report.completed")
        assert told["report_id"] == report["id"]
        assert (told["as_of"], told["stores"]) == (
            report["as_of"],
            report["progress"]["stores_total"],
        )
        assert (told["finished_at"], told["schedule_id"]) == (report["finished_at"], None)
        assert told["url"] == f"{PUBLIC}/reports/{report['id']}"

        (missed,) = verified(made, receiver, "target.missed")
        summary = service.get(f"/reports/{report['id']}/summary").json()
        for window, known in zip(missed["windows"], summary["windows"], strict=True):
            counts = ("window", "stores_met", "stores_missed", "stores_unknown")
            assert {name: window[name] for name in counts} == {name: known[name] for name in counts}
            path = window["url"].removeprefix(PUBLIC)
            assert service.get(path).json()["total"] == window["stores_missed"]
        assert missed["windows"][-1]["stores_missed"] > 0
        assert service.get(missed["url"].removeprefix(PUBLIC)).status_code == 200

        ended(service)  # without a target
        away = service.reports.with_name("away")
        service.reports.rename(away)
        failed = ended(service)
        away.rename(service.reports)
        assert failed["status"] == "failed"
        receiver.wait_for(4)
        (told,) = verified(made, receiver, "report.failed")
        assert (told["report_id"], told["error"]) == (failed["id"], failed["error"])
        assert len(receiver.of_kind("report.completed")) == 2
        assert len(receiver.of_kind("target.missed")) == 1
        assert other.received == []
        for one in (made, stores_only):
            service.ask("DELETE", path_of(one))


def test_a_report_that_is_deleted_before_it_is_told_is_given_up(
    service: Service, receiver: Receiver, module_database_url: str
) -> None:
    made = make(service, receiver.url, events=["report.completed"])
    ask(
        module_database_url,
        "insert into webhook_delivery (webhook, type, report) values ($1::uuid, $2, $3::uuid)",
        *(made["id"], "report.completed", str(uuid4())),
    )
    deliveries = f"{path_of(made)}/deliveries"
    eventually(lambda: service.get(deliveries).json()["items"][0]["state"] == "failed")
    (given_up,) = service.get(deliveries).json()["items"]
    assert given_up["error"] == "the report was deleted before it was told"
    assert service.get(f"{deliveries}/{given_up['id']}").json()["payload"] is None
    assert receiver.received == []
    service.ask("DELETE", path_of(made))
