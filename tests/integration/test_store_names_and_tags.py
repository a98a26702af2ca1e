"""Names and tags of stores: loaded by column, changed one by one, and stores found by them."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.harness.database import ask
from tests.harness.processes import storewatch
from tests.harness.service import Service, problem

CSV = {"Content-Type": "text/csv"}


@pytest.fixture
def store() -> str:
    return str(uuid4())


def load(service: Service, text: str) -> list[int]:
    """Rows, and how many stores were new, replaced and unchanged, and what was removed."""
    answer = service.ask("POST", "/stores", content=text.encode(), headers=CSV)
    assert answer.status_code == 200, answer.text
    done = answer.json()
    return [done[name] for name in ("rows", "new", "replaced", "unchanged", "removed")]


def known(service: Service, store: str) -> tuple[str | None, dict[str, str]]:
    found = service.get(f"/stores/{store}").json()
    return found["name"], found["tags"]


def found(service: Service, *tags: str, **query: Any) -> list[str]:
    answer = service.get("/stores", params={**query, **({"tag": list(tags)} if tags else {})})
    assert answer.status_code == 200, answer.text
    return [one["store_id"] for one in answer.json()["items"]]


def test_only_the_columns_of_a_file_are_set_and_empty_cells_remove(
    empty_service: Service, store: str
) -> None:
    whole = f"store_id,name,region,kind\n{store},Oak Street,west,\n"
    assert load(empty_service, whole) == [1, 1, 0, 0, 0]
    assert load(empty_service, whole) == [1, 0, 0, 1, 0]
    assert known(empty_service, store) == ("Oak Street", {"region": "west"})
    assert load(empty_service, f"kind,store_id\nkiosk,{store}\n") == [1, 0, 1, 0, 0]
    assert known(empty_service, store) == ("Oak Street", {"region": "west", "kind": "kiosk"})
    assert load(empty_service, f"store_id,name,region\n{store},,\n") == [1, 0, 1, 0, 2]
    assert known(empty_service, store) == (None, {"kind": "kiosk"})
    twice = f"store_id,region\n{store},east\n{store},north\n"
    assert load(empty_service, twice) == [2, 0, 1, 0, 0]
    assert known(empty_service, store)[1] == {"kind": "kiosk", "region": "north"}


def test_a_target_is_a_column_and_a_member_like_a_name(
    empty_service: Service, module_database_url: str, store: str, tmp_path: Path
) -> None:
    def target() -> str | None:
        told: str | None = empty_service.get(f"/stores/{store}").json()["target"]
        return told

    whole = f"store_id,name,target,region\n{store},Oak,99.5%,west\n"
    assert load(empty_service, whole) == [1, 1, 0, 0, 0]
    assert load(empty_service, whole) == [1, 0, 0, 1, 0]
    assert target() == "0.995"
    assert known(empty_service, store) == ("Oak", {"region": "west"})
    assert load(empty_service, f"store_id,region\n{store},east\n") == [1, 0, 1, 0, 0]
    assert target() == "0.995"
    assert load(empty_service, f"store_id,target\n{store},\n") == [1, 0, 1, 0, 1]
    assert target() is None
    rows = [{"store_id": store, "target": "0.9"}, {"store_id": f"{store}x", "target": "1"}]
    done = empty_service.ask("POST", "/stores", json=rows).json()
    assert [done[name] for name in ("new", "replaced", "removed")] == [1, 1, 0]
    [listed, _] = empty_service.get("/stores", params={"prefix": store}).json()["items"]
    assert listed["target"] == target() == "0.9"
    path = f"/stores/{store}"
    assert empty_service.ask("PATCH", path, json={"target": "100%"}).json()["target"] == "1"
    assert empty_service.ask("PATCH", path, json={"name": "Elm"}).json()["target"] == "1"
    assert empty_service.ask("PATCH", path, json={"target": None}).json()["target"] is None

    (tmp_path / "targets.csv").write_text(f"store_id,target\n{store},0.75\n")
    place: dict[str, Any] = {"database_url": module_database_url, "home": tmp_path}
    assert storewatch("ingest", "--stores", "targets.csv", **place).returncode == 0
    assert target() == "0.75"
    (tmp_path / "targets.csv").write_text(f"store_id,target\n{store},99.5\n")
    done = storewatch("ingest", "--stores", "targets.csv", **place)
    assert done.returncode == 2
    assert b"line 2, column target, value '99.5': is no target above 0 and up to 1" in done.stderr
    for wrong in ("99.5", "0", "0.123456789"):
        refused = empty_service.ask("PATCH", path, json={"target": wrong})
        assert "The target " in problem(refused)["errors"][0]["problem"]
        rows = [{"store_id": store, "target": wrong}]
        assert problem(empty_service.ask("POST", "/stores", json=rows))["status"] == 422
    assert target() == "0.75"


def test_a_file_with_names_is_recognised_and_any_other_feed_comes_first(
    empty_service: Service, store: str
) -> None:
    for header, row, feed in (
        ("store_id,name,region", f"{store},Oak,west", "stores"),
        ("store_id,name,timezone", f"{store},Oak,Asia/Tokyo", "timezones"),
    ):
        content = f"{header}\n{row}\n".encode()
        answer = empty_service.ask("POST", "/feeds", content=content, headers=CSV)
        assert answer.json()["feed"] == feed
    unnamed = empty_service.ask("POST", "/feeds", content=b"store_id,region\n", headers=CSV)
    assert problem(unnamed)["type"] == "/problems/feed-not-recognised"


def test_files_of_a_command_may_have_different_columns(
    empty_service: Service, module_database_url: str, store: str, tmp_path: Path
) -> None:
    (tmp_path / "names.csv").write_text(f"store_id,name\n{store},Oak\n")
    (tmp_path / "tags.csv").write_text(f"store_id,region\n{store},west\n")
    (tmp_path / "hours.csv").write_text("store_id,day,start_time_local,end_time_local,valid_from\n")
    (tmp_path / "undated.csv").write_text("store_id,day,start_time_local,end_time_local\n")
    files = ("--stores", "names.csv", "--stores", "tags.csv")
    done = storewatch("ingest", *files, database_url=module_database_url, home=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert b"stores: 2 rows of 1 store in 2 files: 1 store new" in done.stderr
    assert known(empty_service, store) == ("Oak", {"region": "west"})
    files = ("--business-hours", "hours.csv", "--business-hours", "undated.csv")
    done = storewatch("ingest", *files, database_url=module_database_url, home=tmp_path)
    assert done.returncode == 2
    assert b"undated.csv: line 1: of the files that are loaded together" in done.stderr


def test_a_store_with_too_many_tags_is_refused_as_a_whole(
    empty_service: Service, store: str, module_database_url: str, tmp_path: Path
) -> None:
    header = ",".join(f"t{number}" for number in range(50))
    load(empty_service, f"store_id,{header}\n{store},{','.join('x' * 50)}\n")
    content = f"store_id,more\n{store},x\nz{store},x\n"
    refused = empty_service.ask("POST", "/stores", content=content.encode(), headers=CSV)
    [error] = problem(refused)["errors"]
    assert error["problem"] == f"store {store!r} would have 51 tags; at most 50 are allowed"
    assert empty_service.get(f"/stores/z{store}").status_code == 404
    place: dict[str, Any] = {"database_url": module_database_url, "home": tmp_path}
    done = storewatch("ingest", "--stores", "-", stdin=content.encode(), **place)
    assert done.returncode == 2
    assert b"would have 51 tags" in done.stderr
    [last, *_] = empty_service.get("/feeds").json()["refusals"]
    assert (last["feed"], last["command"]) == ("stores", True)


def test_single_members_are_patched(empty_service: Service, store: str) -> None:
    path = f"/stores/{store}"
    body = {"name": "Oak", "tags": {"region": "west"}}
    assert problem(empty_service.ask("PATCH", path, json=body))["status"] == 404
    assert problem(empty_service.get(path))["status"] == 404
    empty_service.ask("PUT", f"{path}/timezone", json={"timezone": "Asia/Tokyo"})
    done = empty_service.ask("PATCH", path, json=body)
    assert done.status_code == 200, done.text
    assert done.headers["etag"] == empty_service.get(path).headers["etag"]
    change = {"tags": {"region": None, "kind": "kiosk"}}
    empty_service.ask("PATCH", path, json=change)
    assert known(empty_service, store) == ("Oak", {"kind": "kiosk"})
    stale = empty_service.ask("PATCH", path, json=body, headers={"If-Match": done.headers["etag"]})
    assert problem(stale)["status"] == 412
    assert empty_service.ask("PATCH", path, json={"name": None}).json()["name"] is None
    for wrong in ({"tags": {"a:b": "c"}}, {"name": "x" * 256}, {"colour": "red"}):
        assert problem(empty_service.ask("PATCH", path, json=wrong))["status"] == 422


def test_stores_are_found_by_their_tags_all_of_which_must_hold(empty_service: Service) -> None:
    key = str(uuid4())
    rows = [
        {"store_id": f"{key}-{number}", "tags": {key: kind, "size": size}}
        for number, (kind, size) in enumerate([("a", "s"), ("a", "l"), ("b", "s"), (None, "s")])
    ]
    assert empty_service.ask("POST", "/stores", json=rows).status_code == 200
    first, second, third, fourth = (row["store_id"] for row in rows)
    assert found(empty_service, f"{key}:a") == [first, second]
    assert found(empty_service, f"{key}:a", "size:s") == [first]
    assert found(empty_service, f"{key}:a", f"{key}:b") == []
    assert found(empty_service, f"{key}:", "size:s", prefix=key) == [fourth]
    assert found(empty_service, f"{key}:b", timezone="America/Chicago") == [third]
    page = empty_service.get("/stores", params={"tag": f"{key}:a", "limit": 1})
    following = page.json()["next_cursor"]
    assert found(empty_service, f"{key}:a", cursor=following) == [second]
    for wrong in ("region", ":west", "a:" + "x" * 256):
        refused = problem(empty_service.get("/stores", params={"tag": wrong}))
        assert refused["errors"][0]["field"] == "tag"


def test_stores_are_found_by_name_as_well_as_by_id(empty_service: Service) -> None:
    mark = uuid4().hex
    rows = [
        {"store_id": f"x-{mark}", "name": f"Ö {mark[:20]} Oak%"},
        {"store_id": f"{mark}-y"},
        {"store_id": f"z-{mark}", "name": "Oak"},
    ]
    assert empty_service.ask("POST", "/stores", json=rows).status_code == 200
    assert found(empty_service, search=mark) == [f"{mark}-y"]
    assert found(empty_service, search=mark[:20].upper() + " OAK%") == [f"x-{mark}"]
    assert found(empty_service, search=mark[:20]) == [f"{mark}-y", f"x-{mark}"]
    assert found(empty_service, search=mark + "%") == []
    names = {
        one["store_id"]: one["name"]
        for one in empty_service.get("/stores", params={"prefix": "z-"}).json()["items"]
    }
    assert names[f"z-{mark}"] == "Oak"


def test_a_tag_is_found_by_an_index(empty_service: Service, module_database_url: str) -> None:
    ask(
        module_database_url,
        """
        insert into store (store_id, tags)
        select 'plan-' || number, jsonb_build_object('plan', (number % 500)::text)
        from generate_series(1, 20000) as number
        """,
    )
    ask(module_database_url, "analyze store")
    [(plan,)] = ask(
        module_database_url,
        'explain (format json) select store_id from store where tags @> \'{"plan": "7"}\'',
    )
    assert "store_by_tags" in json.dumps(json.loads(plan))
    assert len(found(empty_service, "plan:7", limit=100)) == 40
