"""Groups and targets of reports, through real HTTP and by the command."""

import csv
import io
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from service.feeds.made_up import FeedFiles
from tests.harness.database import ask
from tests.harness.feeds import ingest, write_csv
from tests.harness.processes import eventually, storewatch
from tests.harness.reports import completed, create
from tests.harness.service import Service, problem, running_service

LAST = datetime(2024, 3, 15, 17, tzinfo=UTC)
ZONES = ("America/Chicago", "Asia/Kathmandu")
BRANDS = ("fresh", "=1+1", 'oak, "the"', None)
TARGETS = (None, "0.9", "100%")
STORES = 12
SHEET = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
GROUPS = {"group_by": ["brand", "timezone"], "target": "0.75"}


@pytest.fixture(scope="module")
def loaded(module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Stores of four brands in two zones and in none, some with targets, some never polled."""
    folder = tmp_path_factory.mktemp("feed")
    polls: list[tuple[object, ...]] = []
    for number in range(STORES - 2):
        for count in range(200):
            when = LAST - timedelta(minutes=count * (37 + number))
            status = "inactive" if count % (number + 2) == 1 else "active"
            polls.append((f"s{number:02}", status, f"{when:%Y-%m-%d %H:%M:%S} UTC"))
    zones = [(f"s{number:02}", ZONES[number % 3]) for number in range(STORES) if number % 3 < 2]
    feed = FeedFiles(
        polls=write_csv(folder / "polls.csv", "store_id,status,timestamp_utc", polls),
        business_hours=write_csv(
            folder / "hours.csv", "store_id,day,start_time_local,end_time_local", []
        ),
        timezones=write_csv(folder / "zones.csv", "store_id,timezone_str", zones),
    )
    ingest(feed, database_url=module_database_url, home=folder)
    rows = [
        (f"s{number:02}", BRANDS[number % 4] or "", TARGETS[number % 3] or "")
        for number in range(STORES)
    ]
    stores = write_csv(folder / "stores.csv", "store_id,brand,target", rows)
    done = storewatch("ingest", "--stores", stores, database_url=module_database_url, home=folder)
    assert done.returncode == 0, done.stderr.decode()
    return module_database_url


@pytest.fixture(scope="module")
def service(loaded: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(loaded, tmp_path_factory.mktemp("service")) as service:
        yield service


@pytest.fixture(scope="module")
def report(service: Service) -> str:
    return completed(service, GROUPS)


def shared(store: dict[str, Any], keys: list[str]) -> tuple[str, ...]:
    number = int(store["store_id"][1:])
    values = {"brand": BRANDS[number % 4] or "", "timezone": store["timezone"], "city": ""}
    return tuple(values[key] for key in keys)


def target_of(store: dict[str, Any]) -> float:
    own = TARGETS[int(store["store_id"][1:]) % 3]
    return {None: 0.75, "0.9": 0.9, "100%": 1.0}[own]


@pytest.mark.parametrize(
    "keys", [["brand"], ["timezone"], ["brand", "timezone"], ["city"]], ids=",".join
)
def test_groups_are_the_sums_of_their_stores(service: Service, keys: list[str]) -> None:
    path = completed(service, {"group_by": keys, "target": "75%"})
    assert service.get(path).json()["options"]["group_by"] == keys
    assert service.get(path).json()["options"]["target"] == "0.75"
    stores = service.get(f"{path}/stores").json()["items"]
    page = service.get(f"{path}/groups").json()
    members: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for store in stores:
        members.setdefault(shared(store, keys), []).append(store)
    assert [tuple(group["values"].values()) for group in page["items"]] == sorted(members)
    assert page["group_by"] == [*page["items"][0]["values"]] == keys
    assert (page["total"], page["next_cursor"]) == (len(members), None)
    for group in page["items"]:
        of_group = members[tuple(group["values"].values())]
        assert group["stores"] == len(of_group)
        for at, told in enumerate(group["windows"]):
            each = [(store, store["windows"][at]) for store in of_group]
            for part in ("uptime", "downtime", "unknown", "excluded", "business_time"):
                assert told[part] == sum(one[part] for _, one in each)
            known = told["uptime"] + told["downtime"]
            assert told["availability"] == (told["uptime"] / known if known else None)
            met = [
                one["uptime"] >= target_of(store) * (one["uptime"] + one["downtime"])
                for store, one in each
                if one["availability"] is not None
            ]
            counted = (told["stores_met"], told["stores_missed"], told["stores_unknown"])
            assert counted == (sum(met), len(met) - sum(met), len(each) - len(met))
            budget = told["budget"]
            assert budget["used"] == told["downtime"]
            assert budget["allowed"] == pytest.approx(
                sum((1 - target_of(store)) * (known_of(one)) for store, one in each)
            )
            assert budget["left"] == pytest.approx(budget["allowed"] - budget["used"])
            assert told["target_met"] is (budget["left"] >= 0 if met else None)
            down = [
                {part: one[part] for part in ("uptime", "downtime")}
                | {"store_id": store["store_id"]}
                for store, one in each
                if one["downtime"]
            ]
            down.sort(key=lambda one: (-one["downtime"], one["store_id"]))
            assert told["worst"] == down[:3]


def known_of(window: dict[str, Any]) -> float:
    known: float = window["uptime"] + window["downtime"]
    return known


def test_the_summary_counts_who_met_and_adds_the_budgets(service: Service, report: str) -> None:
    summary = service.get(f"{report}/summary").json()
    groups = service.get(f"{report}/groups").json()["items"]
    for at, together in enumerate(summary["windows"]):
        windows = [group["windows"][at] for group in groups]
        for count in ("stores_met", "stores_missed", "stores_unknown"):
            assert together[count] == sum(window[count] for window in windows)
        for part in ("allowed", "used", "left"):
            each = [window["budget"][part] for window in windows]
            assert together["budget"][part] == pytest.approx(sum(each))
    counts = ("stores_met", "stores_missed", "stores_unknown")
    assert sum(summary["windows"][2][count] for count in counts) == STORES
    assert summary["windows"][2]["stores_unknown"] == 2


def test_without_the_reports_target_only_those_count_that_have_their_own(service: Service) -> None:
    path = completed(service, {"group_by": ["timezone"]})
    week = service.get(f"{path}/summary").json()["windows"][2]
    with_own = [number for number in range(STORES) if TARGETS[number % 3]]
    counts = [week[f"stores_{one}"] for one in ("met", "missed", "unknown")]
    assert sum(counts) == len(with_own)
    # All stores of this zone have a target, of that one none.
    kathmandu, chicago = (
        next(
            group["windows"][2]
            for group in service.get(f"{path}/groups").json()["items"]
            if group["values"]["timezone"] == zone
        )
        for zone in ("Asia/Kathmandu", "America/Chicago")
    )
    assert kathmandu["budget"]["used"] == kathmandu["downtime"]
    assert chicago["budget"]["used"] < chicago["downtime"]
    only_none = completed(service, {"group_by": ["brand"], "stores": ["s00", "s03"]})
    for group in service.get(f"{only_none}/groups").json()["items"]:
        for window in group["windows"]:
            assert window["budget"] is window["target_met"] is window["stores_met"] is None
    [*_, last] = service.get(f"{only_none}/summary").json()["windows"]
    assert last["budget"] is last["stores_unknown"] is None


def as_told(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return cell if isinstance(cell, str) else repr(float(cell)).removesuffix(".0")


def test_csv_and_spreadsheet_have_a_row_for_each_group_and_window(
    service: Service, report: str
) -> None:
    answer = service.get(f"{report}/groups", headers={"Accept": "text/csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    head, *rows = csv.reader(io.StringIO(answer.text, newline=""))
    groups = service.get(f"{report}/groups").json()["items"]
    assert head[:4] == ["tag_brand", "timezone", "window", "stores"]
    expected = []
    for group in groups:
        for window in group["windows"]:
            budget = window["budget"]
            row = [
                *group["values"].values(),
                *(window["window"], group["stores"]),
                *(window[part] for part in ("uptime", "downtime", "unknown", "excluded")),
                window["availability"],
                *(window[f"stores_{one}"] for one in ("met", "missed", "unknown")),
                *(window["target_met"], budget["allowed"], budget["used"], budget["left"]),
            ]
            for store in window["worst"]:
                row += [store["store_id"], store["downtime"]]
            expected.append([as_told(cell) for cell in row + [None] * (len(head) - len(row))])
    assert rows == expected

    answer = service.get(f"{report}/groups", headers={"Accept": SHEET})
    assert answer.headers["content-type"] == SHEET
    assert answer.headers["content-disposition"].endswith('.groups.xlsx"')
    book = openpyxl.load_workbook(io.BytesIO(answer.content))
    sheet = list(book["groups"].iter_rows())
    assert [cell.value for cell in sheet[0]] == head
    assert len(sheet) == len(expected) + 1
    for row, told in zip(sheet[1:], expected, strict=True):
        for cell, text in zip(row, told, strict=True):
            if cell.data_type == "n" and cell.value is not None:
                assert cell.value == pytest.approx(float(text), rel=1e-15)  # it has 16 digits
            else:
                assert as_told(cell.value) == text
    formula = [cell for row in sheet for cell in row if cell.value == "=1+1"]
    assert formula
    assert {cell.data_type for cell in formula} <= {"s", "inlineStr"}
    book.close()


WITHOUT_SHEETS = """\
import sys
sys.modules["xlsxwriter"] = None
from service.command import main
main()
"""


def test_where_spreadsheets_cannot_be_made_it_says_what_to_install(
    loaded: str, report: str, tmp_path: Path
) -> None:
    command = (sys.executable, "-c", WITHOUT_SHEETS)
    with running_service(loaded, tmp_path / "home", command=command) as bare:
        refused = problem(bare.get(f"{report}/groups", headers={"Accept": SHEET}))
        assert refused["type"] == "/problems/not-acceptable"
        assert "pip install 'storewatch[xlsx]'" in refused["detail"]
        either = {"Accept": f"{SHEET}, text/csv;q=0.5"}
        answer = bare.get(f"{report}/groups", headers=either)
        assert answer.headers["content-type"].startswith("text/csv")


def test_texts_that_look_like_formulas_are_escaped_in_csv_if_asked_for(service: Service) -> None:
    escaped = completed(service, {"group_by": ["brand"], "escape_formulas": True})
    plain = completed(service, {"group_by": ["brand"]})
    as_csv = {"Accept": "text/csv"}
    assert "\n'=1+1,hour" in service.get(f"{escaped}/groups", headers=as_csv).text
    assert "\n=1+1,hour" in service.get(f"{plain}/groups", headers=as_csv).text


def test_groups_are_paged_sorted_and_limited_to_windows(service: Service, report: str) -> None:
    whole = service.get(f"{report}/groups").json()["items"]

    def pages(**query: Any) -> list[Any]:
        found: list[Any] = []
        cursor = None
        while True:
            more: dict[str, str] = {"cursor": cursor} if cursor else {}
            page = service.get(f"{report}/groups", params={"limit": 3, **query, **more}).json()
            assert page["total"] == len(whole)
            found += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return found

    assert pages() == whole

    def week(group: Any, part: str) -> Any:
        return group["windows"][2][part]

    worst_first = sorted(whole, key=lambda group: -week(group, "downtime"))
    assert pages(sort="-downtime_last_week") == worst_first
    known = [group for group in whole if week(group, "availability") is not None]
    unknown = [group for group in whole if week(group, "availability") is None]
    lowest_first = sorted(known, key=lambda group: week(group, "availability")) + unknown
    assert pages(sort="availability_last_week") == lowest_first
    days = pages(window=["day"], sort="-downtime_last_week")
    assert [group["values"] for group in days] == [group["values"] for group in worst_first]
    assert {window["window"] for group in days for window in group["windows"]} == {"day"}
    as_csv = {"Accept": "text/csv"}
    query = {"window": ["week"], "sort": "-downtime_last_week"}
    text = service.get(f"{report}/groups", params=query, headers=as_csv).text
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert {row["window"] for row in rows} == {"week"}
    assert [float(row["downtime_seconds"]) for row in rows] == [
        week(group, "downtime") for group in worst_first
    ]


@pytest.mark.parametrize(
    ("query", "field", "told"),
    [
        ({"window": "month"}, "window", "has no window 'month'; it has hour, day, week"),
        ({"sort": "downtime_2024_03"}, "sort", "has no window 2024_03; it has last_hour"),
        ({"sort": "stores"}, "sort", ""),
        ({"cursor": "x"}, "cursor", ""),
    ],
    ids=["window", "window-of-sort", "measure", "cursor"],
)
def test_what_groups_cannot_be_asked_for_is_refused(
    service: Service, report: str, query: dict[str, str], field: str, told: str
) -> None:
    refused = problem(service.get(f"{report}/groups", params=query))
    assert refused["errors"][0]["field"] == field
    assert told in refused["errors"][0]["problem"]


def test_a_client_that_has_them_already_is_told_so(service: Service, report: str) -> None:
    tags = {}
    for accept in ("application/json", "text/csv", SHEET):
        answer = service.get(f"{report}/groups", headers={"Accept": accept})
        tags[accept] = answer.headers["etag"]
        again = {"Accept": accept, "If-None-Match": answer.headers["etag"]}
        assert service.get(f"{report}/groups", headers=again).status_code == 304
    assert len(set(tags.values())) == 3


def test_a_report_that_was_not_asked_for_by_groups_has_none(service: Service) -> None:
    refused = problem(service.get(f"{completed(service)}/groups"))
    assert refused["type"] == "/problems/report-groups-not-found"
    assert "group_by" in refused["detail"]


@pytest.mark.parametrize(
    ("body", "field", "told"),
    [
        ({"group_by": []}, "group_by", ""),
        ({"group_by": ["a", "b", "c", "d"]}, "group_by", ""),
        ({"group_by": ["a", "a"]}, "group_by", "names a tag twice"),
        ({"group_by": ["a:b"]}, "group_by", "'a:b', which has a colon"),
        ({"target": "99.5"}, "target", "is no target above 0 and up to 1"),
        ({"target": "0.1234567890"}, "target", "more than 8 decimals"),
        ({"target": 0.5}, "target", ""),
    ],
    ids=["none", "four", "twice", "colon", "no-target", "decimals", "number"],
)
def test_options_that_cannot_be_are_refused(
    service: Service, body: object, field: str, told: str
) -> None:
    answer = create(service, body)
    assert answer.status_code == 422
    assert field in answer.text
    assert told in answer.text


def test_a_store_tells_its_target_and_what_is_left(service: Service) -> None:
    own = service.get("/stores/s01/availability").json()
    assert own["target"] == "0.9"
    known = own["uptime"] + own["downtime"]
    assert own["target_met"] is (own["uptime"] >= 0.9 * known)
    assert own["budget"]["allowed"] == pytest.approx(0.1 * known)
    assert own["budget"]["left"] == pytest.approx(0.1 * known - own["downtime"])
    asked = service.get("/stores/s01/availability?target=1%25").json()
    assert (asked["target"], asked["target_met"]) == ("0.01", True)
    none = service.get("/stores/s00/availability").json()
    assert none["target"] is none["target_met"] is none["budget"] is None
    never = service.get("/stores/s10/availability").json()
    assert (never["target"], never["target_met"], never["budget"]["left"]) == ("0.9", None, 0)
    refused = problem(service.get("/stores/s01/availability?target=2"))
    assert refused["errors"][0]["field"] == "target"


def test_the_command_writes_the_same_groups(
    loaded: str, service: Service, report: str, tmp_path: Path
) -> None:
    arguments = ("--group-by", "brand", "--group-by", "timezone", "--target", "75%")
    for name in ("groups.csv", "groups.xlsx"):
        done = storewatch(
            *("report", *arguments, "--groups", name), database_url=loaded, home=tmp_path
        )
        assert done.returncode == 0, done.stderr.decode()
        assert done.stdout == service.get(f"{report}/csv").content
    served = service.get(f"{report}/groups", headers={"Accept": "text/csv"}).content
    assert (tmp_path / "groups.csv").read_bytes() == served
    book = openpyxl.load_workbook(tmp_path / "groups.xlsx")
    assert book["groups"].max_row == served.count(b"\n")
    book.close()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--group-by", "brand"], "--group-by and --groups go together"),
        (["--groups", "x.csv"], "--group-by and --groups go together"),
        (["--target", "0.9"], "--target is for --groups, and for --format"),
        (["--group-by", "a", "--groups", "x.txt"], "must end in .csv or .xlsx"),
        (["--group-by", "a:b", "--groups", "x.csv"], "'a:b', which has a colon"),
        (["--group-by", "a", "--groups", "x.csv", "--target", "2"], "is no target"),
    ],
    ids=["no-file", "no-key", "target-alone", "ending", "colon", "no-target"],
)
def test_the_command_says_what_is_wrong(
    loaded: str, tmp_path: Path, arguments: list[str], told: str
) -> None:
    done = storewatch("report", *arguments, database_url=loaded, home=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr.decode()
    assert not done.stdout
    assert not list(tmp_path.glob("x.*"))


def groups_of(database: str, report_id: str) -> int:
    [(count,)] = ask(database, "select count(*) from report_group where report = $1", report_id)
    return int(count)


def test_an_older_version_leaves_such_a_report_to_this_one(loaded: str, service: Service) -> None:
    taken_by_the_older = """
        update report set state = 'running', run = run + 1, attempts = attempts + 1,
            run_escapes = run + 1, run_windows = run + 1
        where id = $1 returning id
    """
    plain, groups, target = (
        completed(service, body).rpartition("/")[2]
        for body in (None, {"group_by": ["brand"]}, {"target": "0.9"})
    )
    took = [ask(loaded, taken_by_the_older, one) for one in (plain, groups, target)]
    assert [len(rows) for rows in took] == [1, 0, 0]


def test_groups_go_with_the_report_or_its_file(
    loaded: str, tmp_path: Path, service: Service
) -> None:
    deleted = completed(service, GROUPS)
    assert groups_of(loaded, deleted.rpartition("/")[2]) > 0
    assert service.ask("DELETE", deleted).status_code == 204
    assert groups_of(loaded, deleted.rpartition("/")[2]) == 0
    expired = completed(service, GROUPS)
    report_id = expired.rpartition("/")[2]
    long_ago = "update report set finished_at = now() - interval '31 days' where id = $1"
    ask(loaded, long_ago, report_id)
    eventually(lambda: service.get(expired).json()["status"] == "expired")
    assert groups_of(loaded, report_id) == 0
    assert problem(service.get(f"{expired}/groups"))["type"] == "/problems/report-expired"


def test_a_second_run_makes_the_groups_that_the_first_did_not(
    loaded: str, service: Service, report: str
) -> None:
    """The first run's instance died: its lease has passed."""
    [(report_id,)] = ask(
        loaded,
        """
        insert into report (id, as_of, interpolation, max_gap, include_unknown, state, run,
                            attempts, leased_until, run_groups, group_by, target)
        select gen_random_uuid(), as_of, interpolation, max_gap, false, 'running', 1, 1,
               now() - interval '1 minute', 1, group_by, target
        from report where id = $1 returning id
        """,
        report.rpartition("/")[2],
    )
    path = f"/reports/{report_id}"
    eventually(lambda: service.get(path).json()["status"] == "completed")
    told, first = (service.get(f"{one}/groups").json()["items"] for one in (path, report))
    assert told == first


def test_a_report_of_too_many_groups_fails_in_words(
    loaded: str, service: Service, tmp_path: Path
) -> None:
    ask(
        loaded,
        """
        insert into store (store_id, tags)
        select 'many-' || number, jsonb_build_object('many', 'yes', 'number', number::text)
        from generate_series(1, 10100) as number
        """,
    )
    windows = [f"{hours}h" for hours in range(1, 101)]
    body = {"group_by": ["number"], "tags": ["many:yes"], "windows": windows}
    path: str = create(service, body).headers["Location"]
    eventually(lambda: service.get(path).json()["status"] == "failed")
    assert "more than 1,000,000 rows of groups" in service.get(path).json()["error"]
    assert groups_of(loaded, path.rpartition("/")[2]) == 0
    arguments = [part for text in windows for part in ("--window", text)]
    arguments += ["--group-by", "number", "--groups", "x.csv", "--tag", "many:yes"]
    done = storewatch("report", *arguments, database_url=loaded, home=tmp_path)
    assert done.returncode == 2
    assert "more than 1,000,000 rows of groups" in done.stderr.decode()
    assert not (tmp_path / "x.csv").exists()
