"""Reports of schedules that are delivered: as what, where, when, once, and what if they cannot be.

No test waits for a pause between attempts: it lets the next one come.
"""

import asyncio
import gzip
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from tempfile import TemporaryFile
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from pyarrow import parquet

from service.deliveries.places import open_place
from service.feeds.made_up import FeedFiles
from tests.harness.database import ask, polls_locked
from tests.harness.feeds import ingest
from tests.harness.object_store import Network, bucket, network_to, objects, s3_server
from tests.harness.processes import eventually
from tests.harness.service import Service, problem, running_service

RARELY = "0 6 29 2 *"
AT = "2024-02-29T06-00Z"
OUT = "out"  # the bucket
#: Deliveries that an instance has under way at the most.
AT_ONCE = 4
NOWHERE = "s3://no-such-bucket"


class Setup(NamedTuple):
    """A service that may deliver to a bucket and to a folder.

    Attributes:
        service: it is
        url: of its database
        s3: what the environment says of the object store
        network: between the two
        folder: it is
    """

    service: Service
    url: str
    s3: dict[str, str]
    network: Network
    folder: Path


@pytest.fixture(scope="module")
def setup(
    module_database_url: str, feed: FeedFiles, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Setup]:
    home = tmp_path_factory.mktemp("service")
    folder = home / "delivered"
    folder.mkdir()
    ingest(feed, database_url=module_database_url, home=home)
    with s3_server(OUT) as s3, network_to(s3["AWS_ENDPOINT"]) as network:
        environment = {
            **s3,
            "AWS_ENDPOINT": network.url,
            "STOREWATCH_DELIVER_TO": f"s3://{OUT}/allowed, {folder}/,{NOWHERE}",
            "STOREWATCH_REPORT_TTL": "1d",
        }
        with running_service(module_database_url, home, **environment) as service:
            yield Setup(service, module_database_url, s3, network, folder)


@pytest.fixture
def place(setup: Setup) -> Path:
    """A folder of the test's own, in which the service may deliver."""
    folder = setup.folder / str(uuid4())
    folder.mkdir()
    return folder


def make(service: Service, deliver_to: object, **more: Any) -> dict[str, Any]:
    """Make a schedule with a name of its own."""
    body = {"name": str(uuid4()), "cron": RARELY, "timezone": "UTC", "deliver_to": str(deliver_to)}
    answer = service.ask("POST", "/schedules", json={**body, **more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def fire(url: str, made: dict[str, Any]) -> None:
    """Let a time of the plan come: `AT`."""
    at = datetime(2024, 2, 29, 6, tzinfo=UTC)
    ask(url, "update schedule set next_run = $2, due = $2 where id = $1::uuid", made["id"], at)


def run(service: Service, made: dict[str, Any]) -> str:
    """Run a schedule now; the path of the report."""
    path: str = service.ask("POST", f"/schedules/{made['id']}/run").headers["Location"]
    return path


def told(service: Service, made: dict[str, Any]) -> dict[str, Any]:
    known: dict[str, Any] = service.get(f"/schedules/{made['id']}").json()
    return known


def delivery(service: Service, made: dict[str, Any]) -> dict[str, Any]:
    """The delivery of the newest run, or an empty one."""
    runs = told(service, made)["runs"]
    found: dict[str, Any] = runs[0]["delivery"] if runs else {}
    return found


def is_delivered(service: Service, made: dict[str, Any]) -> bool:
    return delivery(service, made).get("status") == "delivered"


def let_next_attempt_come(url: str, path: str) -> None:
    """Of the report at a path, whatever pause or lease there is."""
    sql = "update delivery set due = now() where report_id = $1::uuid and due is not null"
    ask(url, sql, path.removeprefix("/reports/"))


def metrics(service: Service) -> str:
    return service.get("/metrics").text


def names(folder: Path) -> list[str]:
    """All files below a folder, hidden ones too."""
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def test_a_time_of_the_plan_is_delivered_in_all_formats_with_what_is_said_of_it(
    setup: Setup,
) -> None:
    service, url, s3, *_ = setup
    formats = ["csv", "csv.gz", "ndjson", "parquet"]
    report = {"windows": ["1d", "7d"]}
    made = make(
        service,
        f"s3://{OUT}/allowed/by=plan/",
        name="all stores",
        deliver_as=formats,
        report=report,
    )
    assert (made["deliver_to"], made["deliver_as"]) == (f"s3://{OUT}/allowed/by=plan", formats)
    fire(url, made)
    eventually(lambda: is_delivered(service, made))
    known = told(service, made)["runs"][0]
    path = f"/reports/{known['report_id']}"
    details = service.get(path).json()
    assert details["delivery"] == known["delivery"]
    assert known["delivery"]["deliver_to"] == made["deliver_to"]
    assert known["delivery"]["delivered_at"] >= details["finished_at"]
    assert known["delivery"]["error"] is known["delivery"]["next_attempt_at"] is None
    folder = "allowed/by=plan/all-stores-" + hashlib.sha256(b"all stores").hexdigest()[:8]
    files = [f"{folder}/{AT}.{kind}" for kind in formats]
    assert known["delivery"]["files"] == [f"s3://{OUT}/{file}" for file in files]
    assert objects(s3, OUT) == sorted([*files, f"{folder}/{AT}.json"])

    def content(file: str) -> bytes:
        return bytes(bucket(s3, OUT).get(file).bytes())

    csv, packed, ndjson, rows = map(content, files)
    assert csv == gzip.decompress(packed) == service.get(f"{path}/csv").content
    same = service.get(f"{path}/rows", headers={"Accept": "application/x-ndjson"})
    assert ndjson == same.content
    assert parquet.read_table(BytesIO(rows)).num_rows == 2 * len(ndjson.splitlines())
    assert bucket(s3, OUT).get(files[0]).attributes == {"Content-Type": "text/csv"}
    about = json.loads(content(f"{folder}/{AT}.json"))
    assert (about["schedule"], about["schedule_id"]) == ("all stores", made["id"])
    assert about["report_id"] == details["id"]
    assert about["as_of"] == about["scheduled_for"] == details["as_of"]
    assert (about["windows"], about["fingerprint"]) == (details["windows"], details["fingerprint"])
    assert about["stores"] == details["progress"]["stores_total"] == len(ndjson.splitlines())
    assert about["files"] == [
        {
            "name": f"{AT}.{kind}",
            "size": len(one),
            "sha256": hashlib.sha256(one).hexdigest(),
        }
        for kind, one in zip(formats, (csv, packed, ndjson, rows), strict=True)
    ]


def test_to_a_folder_it_goes_under_the_schedules_name_and_a_run_by_hand_under_its_own(
    setup: Setup, place: Path
) -> None:
    service, url, *_ = setup
    made = make(service, place)
    fire(url, made)
    eventually(lambda: is_delivered(service, made))
    assert names(place) == [f"{made['name']}/{AT}.csv", f"{made['name']}/{AT}.json"]
    file = place / made["name"] / f"{AT}.csv"
    assert delivery(service, made)["files"] == [str(file)]
    path = f"/reports/{told(service, made)['runs'][0]['report_id']}"
    assert file.read_bytes() == service.get(f"{path}/csv").content
    assert file.stat().st_mode & 0o777 == 0o640
    path = run(service, made)
    eventually(lambda: service.get(path).json()["delivery"]["status"] == "delivered")
    as_of = datetime.fromisoformat(service.get(path).json()["as_of"])
    stem = f"{as_of:%Y-%m-%dT%H-%M-%S}-{as_of.microsecond // 1000:03}Z"
    assert sorted(set(names(place))) == sorted(
        f"{made['name']}/{one}.{kind}" for one in (AT, stem) for kind in ("csv", "json")
    )


def test_what_was_told_when_the_report_was_queued_holds_if_the_schedule_is_changed_or_deleted(
    setup: Setup, place: Path
) -> None:
    service, url, *_ = setup
    changed, deleted = make(service, place), make(service, place)
    with polls_locked(url):
        for made in (changed, deleted):
            fire(url, made)
        eventually(lambda: delivery(service, changed) and delivery(service, deleted))
        waits = delivery(service, changed)
        assert (waits["status"], waits["files"], waits["attempts"]) == ("waiting", [], 0)
        path = f"/schedules/{changed['id']}"
        more = {"deliver_to": None, "deliver_as": ["ndjson"], "name": str(uuid4())}
        assert service.ask("PATCH", path, json=more).json()["deliver_to"] is None
        assert service.ask("DELETE", f"/schedules/{deleted['id']}").status_code == 204
    folders = (changed["name"], deleted["name"])
    files = sorted(f"{name}/{AT}.{kind}" for name in folders for kind in ("csv", "json"))
    eventually(lambda: names(place) == files)
    eventually(lambda: is_delivered(service, changed))
    path = run(service, changed)
    eventually(lambda: service.get(path).json()["status"] == "completed")
    assert service.get(path).json()["delivery"] is None
    assert names(place) == files


def blocked(setup: Setup, place: Path, **more: Any) -> tuple[dict[str, Any], str]:
    """A schedule, and the path of a report whose delivery has just failed once."""
    made = make(setup.service, place, **more)
    (place / made["name"]).write_text("in the way")
    path = run(setup.service, made)
    eventually(lambda: setup.service.get(path).json()["delivery"]["error"] is not None)
    return made, path


def test_a_delivery_that_fails_says_why_and_is_tried_again(setup: Setup, place: Path) -> None:
    service, url, *_ = setup
    made, path = blocked(setup, place)
    failed = service.get(path).json()["delivery"]
    assert (failed["status"], failed["attempts"]) == ("waiting", 1)
    assert failed["error"].startswith("the folder to deliver to ")
    assert str(place) not in failed["error"]
    first = datetime.fromisoformat(failed["next_attempt_at"])
    let_next_attempt_come(url, path)
    eventually(lambda: delivery(service, made)["attempts"] == 2)
    eventually(lambda: delivery(service, made)["next_attempt_at"] > first.isoformat())
    (place / made["name"]).unlink()
    let_next_attempt_come(url, path)
    eventually(lambda: is_delivered(service, made))
    assert delivery(service, made)["error"] is None
    assert len(names(place)) == 2


@pytest.mark.parametrize(
    ("hours", "died", "words"),
    [(25, 0, "the folder to deliver to"), (0, 10, "the service died")],
    ids=["for-a-day", "dies-each-time"],
)
def test_a_delivery_that_fails_too_long_is_given_up(
    setup: Setup, place: Path, hours: int, died: int, words: str
) -> None:
    service, url, *_ = setup
    made, path = blocked(setup, place)
    sql = """
        update delivery
        set first_tried_at = first_tried_at - make_interval(hours => $2), broken_off = $3
        where schedule_id = $1::uuid
    """
    ask(url, sql, made["id"], hours, died)
    let_next_attempt_come(url, path)
    eventually(lambda: delivery(service, made)["status"] == "failed")
    known = told(service, made)
    ended = known["runs"][0]["delivery"]
    assert (ended["attempts"], ended["next_attempt_at"], ended["delivered_at"]) == (2, None, None)
    assert known["last_delivery_error"] == ended["error"]
    assert words in ended["error"]
    [listed] = [
        one
        for one in service.get("/schedules", params={"limit": 1000}).json()["items"]
        if one["id"] == made["id"]
    ]
    assert listed["last_delivery_error"] == ended["error"]
    assert re.search(
        r'^storewatch_deliveries{state="failed"} [1-9]', metrics(service), re.MULTILINE
    )
    (place / made["name"]).unlink()
    path = run(service, made)
    eventually(lambda: told(service, made)["last_delivery_error"] is None)
    assert service.get(path).json()["delivery"]["status"] == "delivered"


def test_a_report_does_not_expire_before_it_is_delivered(setup: Setup, place: Path) -> None:
    service, url, *_ = setup
    made, path = blocked(setup, place)
    other = service.ask("POST", "/reports").headers["Location"]
    eventually(lambda: service.get(other).json()["status"] == "completed")
    sql = "update report set finished_at = now() - interval '2 days' where id = any ($1::uuid[])"
    ask(url, sql, [one.removeprefix("/reports/") for one in (path, other)])
    eventually(lambda: service.get(other).json()["status"] == "expired")
    assert service.get(path).json()["status"] == "completed"
    (place / made["name"]).unlink()
    let_next_attempt_come(url, path)
    eventually(lambda: is_delivered(service, made))
    eventually(lambda: service.get(path).json()["status"] == "expired")


@pytest.mark.parametrize("becomes", ["deleted", "expired", "no-file"])
def test_a_report_that_is_gone_before_it_is_delivered_is_told(
    setup: Setup, place: Path, becomes: str
) -> None:
    service, url, *_ = setup
    made, path = blocked(setup, place)
    report_id = path.removeprefix("/reports/")
    if becomes == "deleted":
        assert service.ask("DELETE", path).status_code == 204
    elif becomes == "expired":  # by an instance of an older version
        ask(url, "update report set state = 'expired' where id = $1::uuid", report_id)
    else:
        service.csv(report_id).unlink()
    (place / made["name"]).unlink()
    let_next_attempt_come(url, path)
    words = "was deleted" if becomes == "deleted" else "file was gone"
    eventually(lambda: words in (told(service, made)["last_delivery_error"] or ""))
    assert names(place) == []


def test_of_a_report_that_fails_or_is_cancelled_there_is_nothing_to_deliver(
    setup: Setup, place: Path
) -> None:
    service, url, *_ = setup
    made = make(service, place)
    with polls_locked(url):
        path = run(service, made)
        assert service.ask("POST", f"{path}/cancel").status_code == 200
    eventually(lambda: delivery(service, made)["status"] == "failed")
    assert delivery(service, made)["error"] == "the report was cancelled"
    assert names(place) == []


def test_a_link_does_not_lead_out_of_what_is_allowed(
    setup: Setup, place: Path, tmp_path: Path
) -> None:
    made = make(setup.service, place)
    (place / made["name"]).symlink_to(tmp_path)
    path = run(setup.service, made)
    eventually(lambda: setup.service.get(path).json()["delivery"]["error"] is not None)
    assert "out of what STOREWATCH_DELIVER_TO allows" in delivery(setup.service, made)["error"]
    assert names(tmp_path) == []


def test_a_place_that_is_not_allowed_any_more_gets_nothing(setup: Setup, place: Path) -> None:
    service, url, *_ = setup
    made, path = blocked(setup, place)
    elsewhere = place.parent.parent / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    sql = "update delivery set deliver_to = $2 where report_id = $1::uuid"
    ask(url, sql, path.removeprefix("/reports/"), str(elsewhere))
    let_next_attempt_come(url, path)
    eventually(lambda: "STOREWATCH_DELIVER_TO allows" in delivery(service, made)["error"])
    assert names(elsewhere) == []


@pytest.mark.parametrize(
    ("members", "field", "words"),
    [
        ({"deliver_to": f"s3://{OUT}/elsewhere"}, "deliver_to", "STOREWATCH_DELIVER_TO allows"),
        ({"deliver_to": f"s3://{OUT}/allowed/../x"}, "deliver_to", "begins with a dot"),
        ({"deliver_to": ""}, "deliver_to", "length"),
        ({"deliver_as": []}, "deliver_as", "length"),
        ({"deliver_as": ["csv", "csv"]}, "deliver_as", "twice"),
        ({"deliver_as": ["xlsx"]}, "deliver_as[0]", "xlsx"),
    ],
    ids=["elsewhere", "dots", "empty", "no-format", "twice", "unknown-format"],
)
def test_what_cannot_be_delivered_is_refused_in_words(
    setup: Setup, place: Path, members: dict[str, Any], field: str, words: str
) -> None:
    service = setup.service
    made = make(service, place)
    body = {"name": str(uuid4()), "cron": RARELY, "timezone": "UTC", **members}
    for answer in (
        service.ask("POST", "/schedules", json=body),
        service.ask("PATCH", f"/schedules/{made['id']}", json=members),
    ):
        assert answer.status_code == 422, answer.text
        [error] = problem(answer)["errors"]
        assert error["field"] == field
        assert words in error["problem"]
    assert told(service, made) == made


def test_an_object_store_that_hangs_holds_up_no_folder_and_gets_whole_files_later(
    setup: Setup, place: Path
) -> None:
    service, _, s3, network, _ = setup
    far, near = make(service, f"s3://{OUT}/allowed/late"), make(service, place)
    network.freeze()
    held = network.held
    try:
        path = run(service, far)
        eventually(lambda: network.held > held)
        run(service, near)
        eventually(lambda: is_delivered(service, near))
        assert service.get(path).json()["delivery"]["status"] == "waiting"
    finally:
        network.thaw()
    eventually(lambda: is_delivered(service, far))
    late = [name for name in objects(s3, OUT) if name.startswith("allowed/late/")]
    assert len(late) == 2


def test_an_object_store_that_does_not_take_it_is_told_in_words(setup: Setup) -> None:
    made = make(setup.service, NOWHERE)
    path = run(setup.service, made)
    eventually(lambda: setup.service.get(path).json()["delivery"]["error"] is not None)
    words = "the object store has no such bucket or container"
    assert setup.service.get(path).json()["delivery"]["error"] == words
    assert "Traceback" not in setup.service.log


def test_a_large_file_goes_to_an_object_store_in_parts_and_appears_whole(
    setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in setup.s3.items():
        monkeypatch.setenv(name, value)
    rows = bytes(range(256)) * (12 << 12)  # 12 MiB: a part has 5

    async def put() -> str:
        with ThreadPoolExecutor() as threads, TemporaryFile(dir=tmp_path) as file:
            file.write(rows)
            place = open_place(f"s3://{OUT}/large", "many", (f"s3://{OUT}",), "1", threads)
            return await place.put("a.csv", file, "text/csv")

    assert asyncio.run(put()) == f"s3://{OUT}/large/many/a.csv"
    assert bytes(bucket(setup.s3, OUT).get("large/many/a.csv").bytes()) == rows


@pytest.mark.parametrize("sent", [SIGKILL, SIGTERM], ids=["killed", "told-to-stop"])
def test_what_an_instance_had_in_hand_when_it_ended_another_delivers_and_nothing_else_twice(
    setup: Setup, sent: Signals
) -> None:
    service, url, s3, network, folder = setup
    prefix = f"allowed/{sent.name}"
    made = [make(service, f"s3://{OUT}/{prefix}") for _ in range(2 * AT_ONCE)]
    ids = [one["id"] for one in made]

    def attempts() -> list[int]:
        sql = "select attempts from delivery where schedule_id = any ($1::uuid[]) order by 1"
        return [row[0] for row in ask(url, sql, ids)]

    def delivered() -> int:
        return sum(is_delivered(service, one) for one in made)

    with network_to(s3["AWS_ENDPOINT"]) as others:
        environment = {
            **s3,
            "AWS_ENDPOINT": others.url,
            "STOREWATCH_REPORTS": str(service.reports),
            "STOREWATCH_DELIVER_TO": f"s3://{OUT}/allowed",
        }
        with running_service(url, folder.parent / sent.name, **environment) as other:
            for way in (network, others):
                way.freeze()
            try:
                for one in made:
                    run(service, one)
                # Each takes as many as it may, and hangs.
                eventually(lambda: attempts() == [1] * len(made))
                assert not [name for name in objects(s3, OUT) if name.startswith(prefix)]
                other.stop(sent)
            finally:
                network.thaw()
    eventually(lambda: delivered() >= AT_ONCE)
    if sent == SIGKILL:  # its leases have not passed yet
        sql = """
            update delivery set due = now()
            where schedule_id = any ($1::uuid[]) and due is not null and attempts = 1
        """
        ask(url, sql, ids)
    eventually(lambda: delivered() == len(made))
    assert attempts() == [1] * AT_ONCE + [2] * AT_ONCE
    assert len([name for name in objects(s3, OUT) if name.startswith(prefix)]) == 2 * len(made)


def test_what_is_left_of_an_attempt_that_died_goes_with_the_next(setup: Setup, place: Path) -> None:
    service, url, *_ = setup
    made, path = blocked(setup, place)
    folder = place / made["name"]
    folder.unlink()
    folder.mkdir()
    report_id = path.removeprefix("/reports/")
    as_of = datetime.fromisoformat(service.get(path).json()["as_of"])
    stem = f"{as_of:%Y-%m-%dT%H-%M-%S}-{as_of.microsecond // 1000:03}Z"
    (folder / f".{stem}.csv.{report_id}.1").write_text("half of")
    let_next_attempt_come(url, path)
    eventually(lambda: is_delivered(service, made))
    assert names(folder) == [f"{stem}.csv", f"{stem}.json"]
    shutil.rmtree(folder)
