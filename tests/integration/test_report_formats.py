"""A report's stores as CSV, NDJSON and Parquet: the same values, whoever reads them."""

import csv
import io
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pyarrow.parquet as pq
import pytest

from service.feeds.made_up import FeedFiles
from tests.harness.database import add_many_stores, ask
from tests.harness.feeds import write_csv
from tests.harness.processes import PATIENCE, command_environment, storewatch
from tests.harness.reports import completed
from tests.harness.service import Service, problem, running_service

README = Path(__file__).parents[2] / "README.md"
CSV, NDJSON = "text/csv", "application/x-ndjson"
PARQUET = "application/vnd.apache.parquet"
PLAIN = {"Accept-Encoding": "identity"}
MEASURES = ("business_time", "uptime", "downtime", "unknown", "excluded")
ODD = ['Main "St", 5', "Ünïcode\nin two lines", "'=1+1", "", "NULL", "日本"]

#: What reports are asked for.
ASKED = {
    "default": {},
    "windows": {
        "windows": ["36h", "this-month", "days:this-week"],
        "unit": "seconds",
        "include_unknown": True,
        "include_excluded": True,
    },
    "hundred windows": {"windows": [f"{hours}h" for hours in range(1, 101)], "target": "0.9"},
    "calendar": {"windows": ["previous-week", "20d"], "calendar": "Asia/Tokyo", "unit": "hours"},
}


@pytest.fixture(scope="module", autouse=True)
def named(
    service: Service, module_database_url: str, feed: FeedFiles, tmp_path_factory: Any
) -> None:
    """Most stores of the feed have odd names and tags, some a target."""
    ids = [one["store_id"] for one in service.get("/stores?limit=1000").json()["items"]]
    rows = [
        (
            store_id,
            ODD[place % len(ODD)],
            ODD[place % 4],
            "" if place % 3 else "west",
            "r" * (place % 3),
        )
        for place, store_id in enumerate(ids[5:])
    ]
    file = write_csv(
        tmp_path_factory.mktemp("names") / "stores.csv",
        'store_id,name,brand,region "ü,region',
        rows,
    )
    content = file.read_bytes()
    loaded = service.ask("POST", "/stores", content=content, headers={"Content-Type": CSV})
    assert loaded.status_code == 200, loaded.text
    for place, target in ((7, 100_000_000), (8, 99_500_000), (9, 1), (11, 50_000_000)):
        ask(
            module_database_url,
            "update store set target = $2 where store_id = $1",
            ids[place],
            target,
        )


@pytest.fixture(scope="module", params=list(ASKED))
def report(service: Service, request: pytest.FixtureRequest) -> str:
    """The path of a finished report."""
    return completed(service, ASKED[request.param])


def rows(service: Service, report: str, accept: str, **headers: str) -> Any:
    return service.get(f"{report}/rows", headers={"Accept": accept, **headers})


def exact(told: float) -> Fraction:
    """The decimal number that is told."""
    return Fraction(str(told))


def lines(service: Service, report: str) -> list[dict[str, Any]]:
    answer = rows(service, report, NDJSON)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith(NDJSON)
    return [json.loads(line) for line in answer.content.splitlines()]


def test_ndjson_has_on_each_line_what_pages_tell(service: Service, report: str) -> None:
    found = lines(service, report)
    assert found == service.get(f"{report}/stores?limit=1000").json()["items"]
    assert {one["name"] for one in found} == {None, *ODD} - {""}
    assert any('region "ü' in one["tags"] for one in found)
    assert any(one["target"] == "0.995" for one in found)


def test_budgets_and_what_is_met_are_exact(service: Service, report: str) -> None:
    judged = 0
    for store in lines(service, report):
        for window in store["windows"]:
            up, down = exact(window["uptime"]), exact(window["downtime"])
            if store["target"] is None:
                assert (window["met"], window["budget"]) == (None, None)
                continue
            judged += window["met"] is not None
            target = Fraction(store["target"])
            allowed = (1 - target) * (up + down)
            assert window["met"] == (up >= target * (up + down) if up + down else None)
            assert window["budget"] == {
                "allowed": float(allowed),
                "used": float(down),
                "left": float(allowed - down),
            }
    assert judged


def test_csv_is_the_reports_file_and_rounds_what_ndjson_has_exactly(
    service: Service, report: str
) -> None:
    answer = rows(service, report, CSV)
    assert answer.content == service.get(f"{report}/csv").content
    default = service.get(report).json()["options"]["windows"] is None
    unit = {"seconds": 1, "hours": 3600, None: 3600}[service.get(report).json()["options"]["unit"]]
    table = csv.DictReader(io.StringIO(answer.text, newline=""))
    for row, store in zip(table, lines(service, report), strict=True):
        assert row["store_id"] == store["store_id"]
        for window in store["windows"]:
            name = f"last_{window['window']}" if default else window["window"]
            divisor = 60 if name == "last_hour" else unit
            for measure in MEASURES[1:]:
                told = row.get(f"{measure}_{name}")
                hundredths = int(exact(window[measure]) * 100 / divisor + Fraction(1, 2))
                assert told is None or Fraction(told) == Fraction(hundredths, 100)


def expected(service: Service, report: str) -> list[dict[str, Any]]:
    """The rows of the Parquet file, as NDJSON and the report tell them."""
    placed = service.get(report).json()["windows"]
    return [
        {
            **{name: store[name] for name in ("store_id", "name", "timezone", "tags")},
            "target": store["target"] and float(store["target"]),
            "window": window["window"],
            "text": where["text"],
            **{name: window[name] for name in (*MEASURES, "availability", "met")},
            **{
                f"budget_{name}": None if window["budget"] is None else window["budget"][name]
                for name in ("allowed", "used", "left")
            },
            **{name: where[name] for name in ("first_date", "last_date")},
        }
        for store in lines(service, report)
        for window, where in zip(store["windows"], placed, strict=True)
    ]


def text_of_dates(row: dict[str, Any]) -> dict[str, Any]:
    dates = {name: row[name] and row[name].isoformat() for name in ("first_date", "last_date")}
    return {**row, **dates, "tags": dict(row["tags"])}


def test_parquet_has_every_value_as_pyarrow_and_as_duckdb_read_it(
    service: Service, report: str, tmp_path: Path
) -> None:
    answer = rows(service, report, PARQUET, **{"Accept-Encoding": "gzip"})
    assert answer.headers["content-type"] == PARQUET
    assert "content-encoding" not in answer.headers
    wanted = expected(service, report)
    file = tmp_path / "report.parquet"
    file.write_bytes(answer.content)
    read = pq.ParquetFile(file)
    table = read.read()
    bounds = table.select(["store_id", "from", "to"]).to_pylist()
    got = [text_of_dates(row) for row in table.drop_columns(["from", "to"]).to_pylist()]
    assert got == wanted

    connection = duckdb.connect()
    found = connection.execute('select * exclude ("from", "to") from read_parquet(?)', [str(file)])
    names = [column[0] for column in found.description]
    by_duckdb = [text_of_dates(dict(zip(names, row, strict=True))) for row in found.fetchall()]
    assert by_duckdb == wanted

    told = service.get(report).json()
    about = {key.decode(): value.decode() for key, value in read.metadata.metadata.items()}
    assert about["storewatch.report_id"] == told["id"]
    assert about["storewatch.fingerprint"] == told["fingerprint"]
    assert about["storewatch.tz_version"] == told["tz_version"]
    assert about["storewatch.as_of"].startswith(told["as_of"][:19])
    assert json.loads(about["storewatch.options"])["interpolation"] == "nearest"
    # Business time of an always open store is the length of its window, in its own zone.
    window_of = {one["window"]: one for one in told["windows"]}
    for row, bound in zip(wanted, bounds, strict=True):
        length = (bound["to"] - bound["from"]).total_seconds()
        assert row["business_time"] <= length
        where = window_of[row["window"]]
        if where["from"] is not None:
            assert bound["from"].isoformat()[:19] == where["from"][:19]
            assert bound["to"].isoformat()[:19] == where["to"][:19]


def test_the_readmes_query_is_answered_by_duckdb(service: Service, tmp_path: Path) -> None:
    report = completed(service)
    (line,) = (line for line in README.read_text().splitlines() if "duckdb -c" in line)
    query = shlex.split(line)[2].replace("report.parquet", str(tmp_path / "report.parquet"))
    (tmp_path / "report.parquet").write_bytes(rows(service, report, PARQUET).content)
    sums: dict[str | None, list[float]] = {}
    for store in lines(service, report):
        week = store["windows"][2]
        region = sums.setdefault(store["tags"].get("region"), [0, 0])
        region[0] += week["uptime"]
        region[1] += week["uptime"] + week["downtime"]
    found = dict(duckdb.connect().execute(query).fetchall())
    assert found == {region: pytest.approx(up / known) for region, (up, known) in sums.items()}


@pytest.mark.parametrize("accept", [NDJSON, PARQUET, CSV], ids=["ndjson", "parquet", "csv"])
def test_what_is_known_is_not_sent_again_and_head_is_get(
    service: Service, report: str, accept: str
) -> None:
    got = rows(service, report, accept, **PLAIN)
    again = rows(service, report, accept, **PLAIN, **{"If-None-Match": got.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "accept" in got.headers["vary"].lower()
    head = service.ask("HEAD", f"{report}/rows", headers={"Accept": accept, **PLAIN})
    assert (head.status_code, head.content) == (200, b"")
    for name in ("etag", "content-type", "content-disposition", "vary"):
        assert head.headers[name] == got.headers[name]
    assert rows(service, report, accept, **PLAIN).content == got.content


def test_ranges_are_of_the_csv_and_gzip_of_all_but_parquet(service: Service, report: str) -> None:
    part = rows(service, report, CSV, **PLAIN, Range="bytes=3-9")
    assert (part.status_code, part.content) == (206, rows(service, report, CSV).content[3:10])
    whole = rows(service, report, NDJSON, **PLAIN)
    assert rows(service, report, NDJSON, **PLAIN, Range="bytes=3-9").content == whole.content
    packed = rows(service, report, NDJSON)
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == whole.content  # httpx unpacked it
    assert packed.headers["etag"] != whole.headers["etag"]


def test_who_accepts_anything_or_nothing_that_there_is_gets_csv(
    service: Service, report: str
) -> None:
    for accept in ("*/*", "text/html", "application/json", "text/*;q=0.1"):
        assert rows(service, report, accept).headers["content-type"].startswith(CSV)
    preferred = f"{CSV};q=0.5, {NDJSON}"
    assert rows(service, report, preferred).headers["content-type"].startswith(NDJSON)


def test_the_command_writes_the_same(
    service: Service, report: str, module_database_url: str, tmp_path: Path
) -> None:
    options = service.get(report).json()["options"]
    given = [argument for text in options["windows"] or () for argument in ("--window", text)]
    for name in ("calendar", "target"):
        given += [f"--{name}", options[name]] if options[name] else []
    for form, accept in (("ndjson", NDJSON), ("parquet", PARQUET)):
        out = tmp_path / f"report.{form}"
        done = storewatch(
            *("report", "--format", form, "--out", str(out), *given),
            database_url=module_database_url,
            home=tmp_path,
        )
        assert done.returncode == 0, done.stderr.decode()
        told = rows(service, report, accept).content
        if form == "ndjson":
            assert out.read_bytes() == told
        else:
            same = pq.read_table(out).equals(pq.read_table(io.BytesIO(told)))
            assert same
    assert sorted(path.name for path in tmp_path.glob("report.*")) == [
        "report.ndjson",
        "report.parquet",
    ]


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["total"] == len(told["items"])
    return [one["store_id"] for one in told["items"]]


def test_pages_are_filtered_by_tags_names_targets_and_windows(
    service: Service, report: str
) -> None:
    items = lines(service, report)
    names = [f"last_{name}" if name in DEFAULT else name for name in windows_of(items)]

    def found(**query: Any) -> list[str]:
        return ids(service.get(f"{report}/stores", params={**query, "limit": 1000}))

    for brand in ODD[:4]:
        tagged = [one["store_id"] for one in items if one["tags"].get("brand", "") == brand]
        assert tagged
        assert found(tag=f"brand:{brand}") == tagged
        west = [one["store_id"] for one in items if one["tags"].get('region "ü') == "west"]
        both = found(tag=[f"brand:{brand}", 'region "ü:west'])
        assert both == [one for one in tagged if one in west]
    assert found(tag="brand:no such") == found(tag=["brand:a", "brand:b"]) == []
    assert found(tag="nobody has it:") == [one["store_id"] for one in items]
    named = [one["store_id"] for one in items if 'st"' in (one["name"] or "").lower()]
    assert set(named) <= set(found(search='ST"'))
    for place, name in enumerate([*names, None]):
        window = {} if name is None else {"window": name}
        of_store = [(one["store_id"], one["windows"][place - (name is None)]) for one in items]
        missed = [store_id for store_id, of_window in of_store if of_window["met"] is False]
        assert found(missed="true", **window) == missed
        below = [
            store_id
            for store_id, of_window in of_store
            if of_window["availability"] is not None and of_window["availability"] < 0.9
        ]
        assert found(below="0.9", **window) == below
        assert found(below="0.9", missed="true", tag="brand:", **window) == [
            one for one in missed if one in below and one in found(tag="brand:")
        ]


DEFAULT = ("hour", "day", "week")


def windows_of(items: list[dict[str, Any]]) -> list[str]:
    return [window["window"] for window in items[0]["windows"]]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("tag=brand", "is not `key:value`"),
        ("window=last_day", "give one of them"),
        ("below=0.5&window=nope", "has no window nope"),
        ("missed=maybe", ""),
        ("below=2", ""),
    ],
    ids=["tag", "window-alone", "unknown-window", "missed", "below"],
)
def test_what_pages_cannot_be_asked_for_is_refused(
    service: Service, report: str, query: str, told: str
) -> None:
    refused = service.get(f"{report}/stores?{query}")
    assert refused.status_code == 422
    assert told in json.dumps(problem(refused), ensure_ascii=False)


def test_a_file_that_is_cut_while_it_is_open_is_gone(service: Service) -> None:
    report = completed(service)
    assert service.get(f"{report}/stores").status_code == 200
    file = service.reports / f"{report.rpartition('/')[2]}.1.totals"
    file.write_bytes(file.read_bytes()[:100])
    for path, accept in (("stores?sort=-downtime_last_day", "*/*"), ("stores", "*/*")):
        refused = service.get(f"{report}/{path}", headers={"Accept": accept})
        assert problem(refused)["type"] == "/problems/report-expired"
    for accept in (NDJSON, PARQUET):
        with pytest.raises(httpx.RemoteProtocolError):  # begun, and never ended as if it were whole
            rows(service, report, accept)


def test_a_download_that_has_begun_ends_well_though_its_report_is_deleted(
    database_url: str, tmp_path: Path
) -> None:
    stores = 40_000
    add_many_stores(database_url, stores)
    with running_service(database_url, tmp_path) as service:
        report = completed(service)
        headers = {"Accept": NDJSON, **PLAIN}
        url = f"{service.base_url}{report}/rows"
        with httpx.stream("GET", url, headers=headers, timeout=PATIENCE) as answer:
            pieces = answer.iter_bytes()
            begin = next(pieces)
            assert service.ask("DELETE", report).status_code == 204
            found = [json.loads(line) for line in (begin + b"".join(pieces)).splitlines()]
        assert [one["store_id"] for one in found] == [
            f"store-{number:06}" for number in range(1, stores + 1)
        ]
        assert service.get(f"{report}/stores").status_code == 404
        assert service.files() == []


#: The service on a machine without pyarrow.
WITHOUT = "import sys; sys.modules['pyarrow'] = None; from service.command import main; main()"


@pytest.fixture(scope="module")
def without_pyarrow(
    service: Service, module_database_url: str, tmp_path_factory: Any
) -> Iterator[Service]:
    """Beside another one, with which it shares its reports."""
    home = tmp_path_factory.mktemp("without")
    command = [sys.executable, "-c", WITHOUT]
    shared = {"STOREWATCH_REPORTS": str(service.reports)}
    with running_service(module_database_url, home, command=command, **shared) as other:
        yield other


def test_without_pyarrow_parquet_is_refused_in_words(
    without_pyarrow: Service, module_database_url: str, tmp_path: Path
) -> None:
    report = completed(without_pyarrow)
    refused = rows(without_pyarrow, report, PARQUET)
    told = problem(refused)
    assert (told["status"], told["type"]) == (406, "/problems/parquet-not-installed")
    assert "pip install 'storewatch[parquet]'" in told["detail"]
    either = rows(without_pyarrow, report, f"{PARQUET}, {NDJSON};q=0.5")
    assert either.headers["content-type"].startswith(NDJSON), either.text
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, "report", "--format", "parquet"],
        env=command_environment(module_database_url, tmp_path, {}),
        capture_output=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert b"pip install 'storewatch[parquet]'" in done.stderr
