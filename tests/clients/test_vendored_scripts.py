"""The scripts of others that the pages carry are the very files of the npm packages they name."""

import re
import tarfile
from pathlib import Path

import pytest

from tests.clients.tools import run

SERVICE = Path(__file__).parents[2] / "service"
DASHBOARD, SCHEMA_PAGE = SERVICE / "dashboard" / "vendor", SERVICE / "api" / "schema_page"
#: Our file, the folder's README that names the version, the package, and its file.
FILES = [
    (DASHBOARD / "preact.js", "preact", "dist/preact.module.js"),
    (DASHBOARD / "preact-hooks.js", "preact", "hooks/dist/hooks.module.js"),
    (DASHBOARD / "htm.js", "htm", "dist/htm.module.js"),
    (SCHEMA_PAGE / "swagger-ui-bundle.js", "swagger-ui-dist", "swagger-ui-bundle.js"),
    (SCHEMA_PAGE / "swagger-ui.css", "swagger-ui-dist", "swagger-ui.css"),
]


@pytest.mark.parametrize(("ours", "package", "theirs"), FILES, ids=lambda part: str(part)[-24:])
def test_a_file_is_the_packages_own_and_its_version_is_not_withdrawn(
    ours: Path, package: str, theirs: str, tmp_path: Path
) -> None:
    named = re.search(rf"{package} ([0-9.]+[0-9])", (ours.parent / "README").read_text())
    assert named, f"the README beside {ours} names no version of {package}"
    release = f"{package}@{named[1]}"
    try:
        withdrawn = run("npm", "view", release, "deprecated", cwd=tmp_path, silent=False)
        run("npm", "pack", release, cwd=tmp_path, silent=False)
    except AssertionError as error:
        pytest.skip(f"npm cannot be asked: {error}")
    assert not withdrawn.strip()
    (archive,) = tmp_path.glob("*.tgz")
    with tarfile.open(archive) as files:
        member = files.extractfile(f"package/{theirs}")
        assert member is not None
        assert unlinked(member.read()) == unlinked(ours.read_bytes())


def unlinked(script: bytes) -> bytes:
    """The script without the comment that names its source map, and where it finds its package."""
    return re.sub(rb"\n//# sourceMappingURL=\S+", b"", script.replace(b"./preact.js", b"preact"))
