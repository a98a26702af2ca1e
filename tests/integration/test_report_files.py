"""Files of reports as each place keeps them: complete or not at all, in whole and in part."""

import asyncio
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest

from service.reports.files import NoSuchFile, open_report_files, unfinished_file, unfinished_files
from tests.integration.test_object_store import s3  # noqa: F401 - a fixture


@pytest.mark.parametrize("in_object_store", [False, True])
def test_a_large_file_comes_back_as_it_was_in_whole_and_in_part(
    tmp_path: Path,
    s3: dict[str, str],  # noqa: F811
    in_object_store: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    # Larger than what goes into an object store in one request.
    text = b"".join(b"store-%09d,60.00\n" % number for number in range(600_000))
    report_id = uuid4()
    name = f"{report_id}.1.csv"

    async def run() -> None:
        place = s3["STOREWATCH_REPORTS"] if in_object_store else str(tmp_path / "reports")
        files = open_report_files(place, tmp_path)
        with unfinished_file(files, report_id, run=1) as file:
            for start in range(0, len(text), 1 << 20):
                file.write(text[start : start + (1 << 20)])
            file.flush()
            assert [found[1:] for found in unfinished_files(files)] == [(report_id, 1)]
            with pytest.raises(NoSuchFile):
                await anext(files.read(name, 0, 10))
            await files.publish(file.path, name)
        assert unfinished_files(files) == []
        for start, end in ((0, len(text)), (5_000_000, 7_000_001), (len(text) - 1, len(text))):
            pieces = [piece async for piece in files.read(name, start, end)]
            assert b"".join(pieces) == text[start:end]
        await files.delete([name, "another.csv"])
        await files.delete([name, "another.csv"])
        with pytest.raises(NoSuchFile):
            await anext(files.read(name, 0, 10))

    asyncio.run(run())


def test_what_was_not_finished_leaves_nothing(tmp_path: Path) -> None:
    files = open_report_files(str(tmp_path / "reports"), tmp_path)
    with suppress(ZeroDivisionError), unfinished_file(files, uuid4(), run=1) as file:
        file.write(b"store-1")
        _ = 1 // 0
    assert list((tmp_path / "reports").iterdir()) == []
