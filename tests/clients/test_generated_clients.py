"""Clients that others' generators make of the OpenAPI document do their job, without a warning.

Two do the whole job, feeds in and a report out; two more are types, with which answers are read.
Nothing of them is kept: they are made anew from the running service's own document.
"""

import importlib.util
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from service.feeds.made_up import FeedFiles
from tests.clients.tools import HERE, run
from tests.harness.feeds import read_stores, reference_report
from tests.harness.processes import eventually
from tests.harness.service import Service

README = HERE.parents[1] / "README.md"


def test_the_python_client_does_the_whole_job(
    service: Service, key: str, feed: FeedFiles, tmp_path: Path
) -> None:
    client = tmp_path / "storewatch_client"
    document = f"{service.base_url}/schema/openapi.json"
    options = ("--config", HERE / "python" / "config.yaml", "--meta", "none", "--fail-on-warning")
    told = run(
        "openapi-python-client", "generate", "--url", document, "--output-path", client, *options
    )
    assert told.strip() == f"Generating {client}"

    shutil.copy(HERE / "python" / "drive.py", tmp_path)
    # What the driver takes for granted of the client's types is so.
    run("mypy", "--strict", "--config-file=", "--follow-imports=silent", "drive.py", cwd=tmp_path)
    expect_report(feed, service, key, [sys.executable, "-W", "error", "drive.py"], tmp_path)


def test_the_typescript_client_does_the_whole_job(
    service: Service, key: str, feed: FeedFiles, node_modules: Path, tmp_path: Path
) -> None:
    folder = typescript_folder("typescript", node_modules, tmp_path)
    document = f"{service.base_url}/schema/openapi.json"
    told = run(
        "node_modules/.bin/openapi-ts",
        *("--input", document, "--output", "client", "--client", "@hey-api/client-fetch"),
        "--no-log-file",
        cwd=folder,
    )
    assert "Done!" in told
    assert "❗" not in told
    run("node_modules/.bin/tsc", "--project", ".", cwd=folder)
    expect_report(feed, service, key, ["node", "out/drive.js"], folder)


def test_openapi_fetch_answers_in_the_types_of_openapi_typescript(
    loaded_service: Service, document: Path, node_modules: Path, tmp_path: Path
) -> None:
    folder = typescript_folder("openapi_fetch", node_modules, tmp_path)
    # Else what has a default would have to be given.
    options = ("--default-non-nullable=false", "--redocly", HERE / "redocly.yaml")
    run("node_modules/.bin/openapi-typescript", document, "-o", "schema.ts", *options, cwd=folder)
    run("node_modules/.bin/tsc", "--project", ".", cwd=folder)
    run("node", "out/drive.js", loaded_service.base_url, cwd=folder)


@pytest.fixture(scope="module")
def models(document: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The models of pydantic that datamodel-code-generator makes."""
    file = tmp_path_factory.mktemp("models") / "storewatch_models.py"
    run(
        "datamodel-codegen",
        *("--input", document, "--input-file-type", "openapi", "--output", file),
        *("--output-model-type", "pydantic_v2.BaseModel", "--formatters", "builtin"),
    )
    spec = importlib.util.spec_from_file_location("storewatch_models", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)  # pydantic looks names up there
        spec.loader.exec_module(module)
        yield module


def test_models_of_pydantic_read_what_the_service_answers(
    models: ModuleType, loaded_service: Service, feed: FeedFiles
) -> None:
    def read(model: str, path: str) -> object:
        """An answer as the model has it; written again, it says the same."""
        answer = loaded_service.get(path)
        kind = getattr(models, model)
        found = kind.model_validate_json(answer.content, strict=False, extra="forbid")
        again = kind.model_validate_json(found.model_dump_json(by_alias=True))
        assert again == found
        return found

    wanted = models.ReportRequest(interpolation="previous", max_gap="12h")
    asked = loaded_service.ask(
        "POST", "/reports", content=wanted.model_dump_json(exclude_unset=True)
    )
    report = f"/reports/{models.ReportDetails.model_validate_json(asked.content).id}"
    eventually(lambda: loaded_service.get(report).json()["status"] == "completed")
    for model, path in (
        ("ReportPage", "/reports"),
        ("ReportDetails", report),
        ("ReportSummary", f"{report}/summary"),
        ("ReportStorePage", f"{report}/stores?condition=recovered&sort=-downtime_last_day"),
        ("ReportTimezones", f"{report}/timezones"),
        ("ReportTrend", f"{report}/trend"),
        ("ReportChanges", f"{report}/changes"),
        ("StorePage", "/stores"),
        ("FeedsState", "/feeds"),
        ("ApiKeys", "/keys"),
        ("Live", "/health/live"),
        ("Ready", "/health/ready"),
        ("ProblemDetails", "/stores/nowhere"),
    ):
        read(model, path)
    for store in read_stores(feed):
        place = f"/stores/{store.store_id}"
        read("StoreDetails", place)
        read("StoreAvailability", f"{place}/availability")
        read("StoreTimeline", f"{place}/timeline")
        read("StoreState", f"{place}/state")
        read("StoreOutages", f"{place}/outages?from=2023-01-18T00:00Z&to=2023-01-25T18:00Z")


def test_no_model_is_numbered_because_a_name_came_twice(models: ModuleType) -> None:
    made = {name for name, value in vars(models).items() if isinstance(value, type)}
    assert {"ReportStatus", "PollStatus", "LegacyReportStatus", "TimelineState"} <= made
    assert {name for name in made if name[-1].isdigit()} == set()


def test_the_readme_names_the_versions_that_are_tested_here() -> None:
    text = README.read_text()
    pins = {**npm_pins(), **pip_pins()}
    named = re.findall(r"(?<![\w/@-])(@?[a-z][\w/-]*)(?:\[\w+\])?(?:@|==)(\d[\w.]*)", text)
    assert {name for name, _ in named} == {
        "@hey-api/openapi-ts",
        "typescript",
        "openapi-typescript",
        "openapi-python-client",
        "datamodel-code-generator",
    }
    assert [(name, version) for name, version in named if pins[name] != version] == []


def npm_pins() -> dict[str, str]:
    pins: dict[str, str] = json.loads((HERE / "package.json").read_text())["devDependencies"]
    return pins


def pip_pins() -> dict[str, str]:
    lines = (README.parent / "constraints.txt").read_text().splitlines()
    return dict(line.split("==", 1) for line in lines if "==" in line)


def typescript_folder(driver: str, node_modules: Path, tmp_path: Path) -> Path:
    """A folder with a driver and all that compiles it."""
    folder = tmp_path / driver
    shutil.copytree(HERE / driver, folder)
    (folder / "node_modules").symlink_to(node_modules)
    return folder


def expect_report(
    feed: FeedFiles, service: Service, key: str, driver: list[str], folder: Path
) -> None:
    """Run a driver on the feed; what it fetches must be the report of the slow reference."""
    for file in (feed.polls, feed.business_hours, feed.timezones):
        shutil.copy(file, folder)
    run(*driver, service.base_url, folder, cwd=folder, environment={"STOREWATCH_KEY": key})
    assert (folder / "report.csv").read_bytes() == reference_report(read_stores(feed))
