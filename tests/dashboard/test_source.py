"""The dashboard's scripts and styles as they are written: form, types, what needs no browser."""

import re
from pathlib import Path

import pytest

from tests.clients.tools import install_npm_packages, run

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture(scope="module")
def commands() -> Path:
    """The folder of the commands of npm's packages."""
    return install_npm_packages() / ".bin"


def test_scripts_and_styles_are_formatted_and_biome_finds_nothing(commands: Path) -> None:
    run(commands / "biome", "check", "--error-on-warnings", cwd=ROOT, silent=False)


def test_the_types_fit(commands: Path) -> None:
    run(commands / "tsc", "--project", HERE)


def test_the_page_asks_for_every_script_at_once() -> None:
    dashboard = ROOT / "service" / "dashboard"
    asked = re.findall(r'(?:src|href)="dashboard/(.+\.js)"', (dashboard / "index.html").read_text())
    scripts = [str(script.relative_to(dashboard)) for script in dashboard.rglob("*.js")]
    assert sorted(asked) == sorted(scripts)


def test_rules_that_need_no_browser() -> None:
    # Node would say of each file that no package.json tells what it is.
    quietly = "--disable-warning=MODULE_TYPELESS_PACKAGE_JSON"
    run("node", quietly, "--test", "--test-reporter=tap", *sorted(HERE.glob("*.test.js")))
