"""Clients that others' generators make of the OpenAPI document do the whole job, without a warning.

Nothing of the clients is kept: they are made anew from the running service's own document.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from service.made_up_feed import FeedFiles
from tests.integration.service import Service, read_stores, reference_report

HERE = Path(__file__).parent
#: Where npm's packages stay between runs.
NODE_MODULES = HERE.parents[1] / "build" / "typescript"
#: The commands that came with the packages of this environment: node and npm too.
BIN = Path(sys.executable).parent
PATH = f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"


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
    service: Service, key: str, feed: FeedFiles, tmp_path: Path
) -> None:
    install_typescript()
    folder = tmp_path / "typescript"
    shutil.copytree(HERE / "typescript", folder)
    (folder / "node_modules").symlink_to(NODE_MODULES / "node_modules")
    document = f"{service.base_url}/schema/openapi.json"
    told = run(
        "node_modules/.bin/openapi-ts",
        *("--input", document, "--output", "client", "--client", "@hey-api/client-fetch"),
        "--no-log-file",
        cwd=folder,
    )
    assert "Done!" in told
    assert "❗" not in told
    run("node_modules/.bin/tsc", "--strict", "--project", ".", cwd=folder)
    expect_report(feed, service, key, ["node", "out/drive.js"], folder)


def install_typescript() -> None:
    """Have npm fetch the compiler and the generator; where it cannot, only CI must."""
    NODE_MODULES.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "typescript" / "package.json", NODE_MODULES)
    try:
        run("npm", "install", "--no-package-lock", "--no-audit", "--no-fund", cwd=NODE_MODULES)
    except AssertionError as error:
        if "CI" in os.environ:
            raise
        pytest.skip(f"npm cannot fetch what makes the TypeScript client: {error}")


def expect_report(
    feed: FeedFiles, service: Service, key: str, driver: list[str], folder: Path
) -> None:
    """Run a driver on the feed; what it fetches must be the report of the slow reference."""
    for file in (feed.polls, feed.business_hours, feed.timezones):
        shutil.copy(file, folder)
    run(*driver, service.base_url, folder, cwd=folder, environment={"STOREWATCH_KEY": key})
    assert (folder / "report.csv").read_bytes() == reference_report(read_stores(feed))


def run(
    *command: str | Path, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """Run a command that must succeed without a word on standard error; its standard output."""
    done = subprocess.run(
        [shutil.which(command[0], path=PATH) or command[0], *map(str, command[1:])],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PATH": PATH, **(environment or {})},
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert command[0] == "npm" or not done.stderr, done.stderr
    return done.stdout
