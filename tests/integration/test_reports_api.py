"""Reports as a resource: asked for, followed, fetched, expired."""

import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.harness.database import add_many_stores, many_stores_report, polls_locked
from tests.harness.processes import PATIENCE, eventually
from tests.harness.reports import completed, create
from tests.harness.service import Service, problem, running_service

STORES = 3000


@pytest.fixture(scope="module")
def service(
    module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    add_many_stores(module_database_url, STORES)
    with running_service(module_database_url, tmp_path_factory.mktemp("service")) as service:
        yield service


def test_a_report_is_accepted_and_tells_where_it_is_and_how_far(service: Service) -> None:
    answer = create(service)
    report = answer.json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/reports/{report['id']}" == report["links"]["self"]
    assert int(answer.headers["Retry-After"]) >= 1
    assert report["status"] in ("queued", "running")
    eventually(lambda: service.get(answer.headers["Location"]).json()["status"] == "completed")
    report = service.get(answer.headers["Location"]).json()
    assert report["progress"] == {
        "stores_done": STORES,
        "stores_total": STORES,
        "percent": 100.0,
        "seconds_left": None,
    }
    assert report["as_of"] == "2022-01-08T12:00:00Z"
    assert report["options"] == {
        "as_of": None,
        "interpolation": "nearest",
        "max_gap": "24h",
        "include_unknown": False,
        "include_excluded": False,
        "windows": None,
        "calendar": None,
        "unit": None,
        "escape_formulas": False,
        "named_stores": None,
        "tags": None,
        "group_by": None,
        "target": None,
        "queryable": False,
        "stores": None,
    }
    assert report["seconds"] > 0
    assert report["error"] is None


def test_what_is_asked_for_is_what_is_computed(service: Service) -> None:
    path = completed(
        service,
        {
            "as_of": "2022-01-08 13:00:00.0009999+01",
            "interpolation": "previous",
            "max_gap": "90m",
            "include_unknown": True,
            "stores": ["store-000007", "store-000002", "store-000007"],
        },
    )
    options = service.get(path).json()["options"]
    assert options == {
        "as_of": "2022-01-08T12:00:00Z",
        "interpolation": "previous",
        "max_gap": "1h30m",
        "include_unknown": True,
        "include_excluded": False,
        "windows": None,
        "calendar": None,
        "unit": None,
        "escape_formulas": False,
        "named_stores": 2,
        "tags": None,
        "group_by": None,
        "target": None,
        "queryable": False,
        "stores": ["store-000002", "store-000007"],
    }
    # The poll comes at the end of every window: `previous` has it speak for nothing before.
    nothing = "0.00,0.00,0.00,0.00,0.00,0.00,60.00,24.00,168.00"
    rows = service.get(f"{path}/csv").text.splitlines()[1:]
    assert rows == [f"store-000002,{nothing}", f"store-000007,{nothing}"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"max_gap": "30s"}, "max_gap"),
        ({"max_gap": "32d"}, "max_gap"),
        ({"interpolation": "linear"}, "interpolation"),
        ({"as_of": "1969-12-31T23:59:59Z"}, "as_of"),
        ({"as_of": "2022-W01 12:00"}, "is not an instant such as"),
        ({"as_of": 253402300800}, "Expected `str | null`, got `int`"),
        ({"include_unknown": 0}, "include_unknown"),
        ([], "object"),
        ({"asof": "2022-01-08T12:00:00Z"}, "asof"),
        ({"stores": []}, "stores"),
        ({"stores": ["store-000001", "nobody"]}, "nobody"),
        ({"stores": ["a\0b"]}, "stores"),
    ],
)
def test_a_report_that_cannot_be_is_refused_with_a_reason(
    service: Service, body: object, told: str
) -> None:
    before = service.get("/reports").json()
    answer = create(service, body)
    assert answer.status_code == 422
    assert told in json.dumps(problem(answer))
    assert service.get("/reports").json() == before


def test_a_full_queue_says_when_to_come_back(database_url: str, tmp_path: Path) -> None:
    add_many_stores(database_url, 10)
    limits = {"STOREWATCH_QUEUED_REPORTS": "2", "STOREWATCH_CONCURRENT_REPORTS": "1"}
    with (
        running_service(database_url, tmp_path, **limits) as service,
        polls_locked(database_url),
    ):
        path = create(service, Idempotency_Key="first").headers["Location"]
        eventually(lambda: service.get(path).json()["status"] == "running")
        assert [create(service).status_code for _ in range(3)] == [202, 202, 429]
        refused = create(service)
        assert problem(refused)["type"].endswith("/queue-full")
        assert int(refused.headers["Retry-After"]) > 0
        assert service.get("/trigger_report").status_code == 429
        assert create(service, Idempotency_Key="first").status_code == 202


def test_the_csv_comes_whole_with_a_tag_that_tells_it_is_known(service: Service) -> None:
    path = completed(service)
    answer = service.get(f"{path}/csv")
    assert answer.content == many_stores_report(range(1, STORES + 1))
    assert answer.headers["Content-Type"].startswith("text/csv")
    name = f'attachment; filename="{path.removeprefix("/reports/")}.csv"'
    assert answer.headers["Content-Disposition"] == name
    tags = {}
    for coding in ("identity", "gzip"):
        asked = {"Accept-Encoding": coding}
        etag = service.get(f"{path}/csv", headers=asked).headers["ETag"]
        tags[coding] = etag
        for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            told = service.get(f"{path}/csv", headers={**asked, "If-None-Match": known})
            assert (told.status_code, told.content) == (304, b"")
            assert told.headers["ETag"] == etag
        changed = service.get(f"{path}/csv", headers={**asked, "If-None-Match": '"other"'})
        assert changed.status_code == 200
    assert tags["identity"].strip('"') == hashlib.sha256(answer.content).hexdigest()
    assert tags["gzip"] != tags["identity"]


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [("gzip", True), ("br, gzip;q=0.5", True), ("gzip;q=0", False), ("identity", False)],
)
def test_the_csv_is_packed_when_that_is_asked_for(
    service: Service, accepted: str, packed: bool
) -> None:
    path = completed(service)
    asked = {"Accept-Encoding": accepted}
    url = f"{service.base_url}{path}/csv"
    with httpx.stream("GET", url, headers=asked, timeout=PATIENCE) as answer:
        raw = b"".join(answer.iter_raw())
    assert (answer.headers.get("Content-Encoding") == "gzip") == packed
    assert answer.headers["Vary"] == "Accept-Encoding"
    text = gzip.decompress(raw) if packed else raw
    assert text == many_stores_report(range(1, STORES + 1))


def test_a_part_of_the_csv_comes_alone(service: Service) -> None:
    path = completed(service)
    whole = many_stores_report(range(1, STORES + 1))
    size = len(whole)

    def part(wanted: str, **more: str) -> httpx.Response:
        return service.get(f"{path}/csv", headers={"Range": wanted, **more})

    for wanted, expected in (
        ("bytes=0-9", whole[:10]),
        ("bytes=100-", whole[100:]),
        ("bytes=-5", whole[-5:]),
        (f"bytes=10-{size + 100}", whole[10:]),
    ):
        answer = part(wanted)
        assert (answer.status_code, answer.content) == (206, expected)
        start = whole.index(expected) if len(expected) > 10 else size - 5
        start = 0 if expected == whole[:10] else start
        assert (
            answer.headers["Content-Range"] == f"bytes {start}-{start + len(expected) - 1}/{size}"
        )
        assert "Content-Encoding" not in answer.headers
    outside = part(f"bytes={size}-")
    assert outside.status_code == 416
    assert outside.headers["Content-Range"] == f"bytes */{size}"
    for whole_instead in ("bytes=9-0", "lines=1-2", "bytes=0-1,5-6"):
        assert part(whole_instead).content == whole
    assert part("bytes=0-9", **{"If-Range": '"another"'}).content == whole
    etag = part("bytes=0-9").headers["ETag"]
    assert part("bytes=0-9", **{"If-Range": etag}).content == whole[:10]


def test_head_answers_what_get_would_but_for_the_file(service: Service) -> None:
    path = completed(service)
    asked = {"Accept-Encoding": "identity"}
    head = service.ask("HEAD", f"{path}/csv", headers=asked)
    get = service.get(f"{path}/csv", headers=asked)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("ETag", "Content-Length", "Content-Type", "Content-Disposition"):
        assert head.headers[name] == get.headers[name]
    assert service.ask("HEAD", f"/reports/{uuid4()}/csv").status_code == 404


def test_a_csv_that_is_not_there_yet_or_never_will_be_is_told_from_one_that_was(
    database_url: str, tmp_path: Path
) -> None:
    with running_service(database_url, tmp_path) as service:
        failed = create(service).headers["Location"]  # there are no polls
        eventually(lambda: service.get(failed).json()["status"] == "failed")
        assert "there are no polls yet" in service.get(failed).json()["error"]
        assert service.get(f"{failed}/csv").status_code == 409
        add_many_stores(database_url, 10)
        with polls_locked(database_url):
            running = create(service).headers["Location"]
            early = service.get(f"{running}/csv")
            assert early.status_code == 409
            assert int(early.headers["Retry-After"]) > 0
        lost = completed(service)
        service.csv(lost.removeprefix("/reports/")).unlink()
        assert service.get(f"{lost}/csv").status_code == 410
        assert service.get(f"/reports/{uuid4()}/csv").status_code == 404
        assert service.get("/reports/nonsense").status_code == 404


def test_a_report_whose_time_is_over_expires(database_url: str, tmp_path: Path) -> None:
    add_many_stores(database_url, 10)
    with running_service(database_url, tmp_path, STOREWATCH_REPORT_TTL="1s") as service:
        path = completed(service)
        eventually(lambda: service.get(path).json()["status"] == "expired")
        gone = service.get(f"{path}/csv")
        assert gone.status_code == 410
        assert problem(gone)["type"].endswith("/report-expired")
        assert service.files() == []
        assert service.status(path.removeprefix("/reports/")) == "Not Found"
