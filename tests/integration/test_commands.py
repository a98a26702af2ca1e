"""The commands as a person runs them: their options, the demo, and what they say of settings."""

import json
import os
import pty
import shlex
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from service.database.migrations import MIGRATIONS
from service.feeds.made_up import FeedFiles
from service.spans import parse_span
from tests.harness.database import add_many_stores, ask, many_stores_report
from tests.harness.feeds import HEADER, ingest, read_stores, reference_report
from tests.harness.processes import COMMAND, PATIENCE, command_environment, free_port, storewatch
from tests.harness.reference import reference_csv_row
from tests.harness.service import running_service


@pytest.fixture(scope="module")
def loaded(
    module_database_url: str, feed: FeedFiles, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The DSN of a database with the feed."""
    ingest(feed, database_url=module_database_url, home=tmp_path_factory.mktemp("home"))
    return module_database_url


# What a report is asked by.


@pytest.mark.parametrize(
    ("interpolation", "max_gap", "unknown"),
    [("nearest", "90m", True), ("previous", "24h", False), ("previous", "1h30m", True)],
)
def test_a_reports_options_are_those_of_the_reference(
    loaded: str, feed: FeedFiles, tmp_path: Path, interpolation: str, max_gap: str, unknown: bool
) -> None:
    as_of = 1_710_300_000_000
    arguments = ["--as-of", "2024-03-13T03:20Z", "--interpolation", interpolation]
    arguments += ["--max-gap", max_gap, *(["--unknown"] if unknown else [])]
    done = storewatch("report", *arguments, database_url=loaded, home=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    header, *rows = done.stdout.decode().splitlines()
    assert header.startswith(HEADER)
    assert ("unknown_last_hour" in header) == unknown
    gap = parse_span(max_gap)
    assert rows[::6] == [  # the reference is slow
        reference_csv_row(store, as_of, interpolation, gap, unknown)  # type: ignore[arg-type]
        for store in read_stores(feed)[::6]
    ]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--max-gap", "1 day"], "Invalid value for --max-gap: '1 day' is not a span of time"),
        (["--max-gap", "32d"], "'32d' is not between 1m and 31d"),
        (["--as-of", "yesterday"], "Invalid value for --as-of: 'yesterday' is not an instant"),
        (["--interpolation", "linear"], "'linear' is not one of 'nearest', 'previous'"),
    ],
)
def test_an_option_that_cannot_be_is_refused(
    arguments: list[str], told: str, tmp_path: Path
) -> None:
    refused = storewatch("report", *arguments, database_url="postgresql://x", home=tmp_path)
    assert refused.returncode == 2
    assert told in refused.stderr.decode()


# The demo.


def test_standard_input_is_taken_once(tmp_path: Path) -> None:
    options = ("--polls", "-", "--timezones", "-")
    done = storewatch("ingest", *options, database_url=None, home=tmp_path)
    assert done.returncode == 2
    assert b"standard input can be read once" in done.stderr
    assert not any(tmp_path.iterdir())


def test_a_demo_does_the_whole_job_in_its_folder_and_touches_no_other_database(
    loaded: str, public_folder: Path
) -> None:
    before = storewatch("report", database_url=loaded, home=public_folder).stdout
    for _ in range(2):  # the second time in the folder that the first one made
        demo = storewatch("demo", "--stores", "5", database_url=loaded, home=public_folder)
        assert demo.returncode == 0, demo.stderr.decode()
        report = public_folder / "storewatch-demo" / "report.csv"
        rows = report.read_text().splitlines()
        assert len(rows) == 6
        assert demo.stdout.decode().splitlines() == [*rows, "", f"The whole report: {report}"]
    names = ("polls.csv", "business_hours.csv", "timezones.csv")
    made_up = FeedFiles(*(report.parent / name for name in names))
    assert report.read_bytes() == reference_report(read_stores(made_up))
    assert storewatch("report", database_url=loaded, home=public_folder).stdout == before
    assert [path.name for path in public_folder.iterdir()] == ["storewatch-demo"]


def test_a_demo_takes_no_folder_that_has_something_else(public_folder: Path) -> None:
    (public_folder / "polls.csv").write_text("precious")
    refused = storewatch("demo", "--folder", ".", database_url=None, home=public_folder)
    assert refused.returncode == 2
    assert "Give it a folder of its own" in refused.stderr.decode()
    assert [path.name for path in public_folder.iterdir()] == ["polls.csv"]
    assert (public_folder / "polls.csv").read_text() == "precious"


# Settings.


def test_the_tables_are_brought_up_to_date_apart_from_a_start(
    database_url: str, tmp_path: Path
) -> None:
    newest = max(int(file.name[:4]) for file in MIGRATIONS.glob("*.sql"))
    for _ in range(2):  # again, it does nothing
        done = storewatch("migrate", database_url=database_url, home=tmp_path)
        assert done.stderr.decode() == f"The database is up to date: migration {newest}.\n"
    assert ask(database_url, "select count(*) from store") == [(0,)]


def test_a_command_warns_of_a_misspelt_setting(loaded: str, tmp_path: Path) -> None:
    done = storewatch("report", database_url=loaded, home=tmp_path, STOREWATCH_WORKER="3")
    assert done.returncode == 0
    assert done.stderr.decode() == (
        "STOREWATCH_WORKER is set, but there is no such setting: did you mean STOREWATCH_WORKERS?\n"
    )


def test_a_wrong_setting_ends_a_command_with_a_sentence(loaded: str, tmp_path: Path) -> None:
    done = storewatch("report", database_url=loaded, home=tmp_path, STOREWATCH_FEED_BYTES="lots")
    assert done.returncode == 2
    assert done.stderr.decode().startswith("Error: STOREWATCH_FEED_BYTES=lots: is not a size such")


def test_the_service_warns_in_its_log_and_listens_where_its_settings_say(
    loaded: str, tmp_path: Path
) -> None:
    port = free_port()
    environment = {"STOREWATCH_PORT": str(port), "STOREWATCH_WORKER": "3"}
    serve = subprocess.Popen(
        [*COMMAND, "serve"],
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=command_environment(loaded, tmp_path, environment),
    )
    assert serve.stderr is not None
    lines = []
    try:
        for line in serve.stderr:
            lines.append(json.loads(line))
            if "running on" in lines[-1]["message"]:
                break
    finally:
        serve.terminate()
        serve.communicate(timeout=PATIENCE)
    assert f"http://127.0.0.1:{port} " in lines[-1]["message"]
    warnings = [line["message"] for line in lines if line["level"] == "warning"]
    assert any("did you mean STOREWATCH_WORKERS?" in warning for warning in warnings)


def test_an_option_counts_more_than_its_setting(loaded: str, tmp_path: Path) -> None:
    # `--port 0` is given to it too.
    elsewhere = {"STOREWATCH_PORT": "1", "STOREWATCH_HOST": "192.0.2.1"}
    with running_service(loaded, tmp_path, "--host", "127.0.0.1", **elsewhere) as service:
        assert service.get("/health/live").status_code == 200


def test_the_log_tells_the_command_to_look_into_the_private_database(public_folder: Path) -> None:
    with running_service(None, public_folder) as service:
        messages = [json.loads(line)["message"] for line in service.log.splitlines()]
        (told,) = [message for message in messages if "To look into it: " in message]
        psql = shlex.split(told.partition("To look into it: ")[2])
        asked = subprocess.run([*psql, "-Atc", "select count(*) from store"], capture_output=True)
        assert asked.stdout == b"0\n", asked.stderr


# On a terminal.


def on_a_terminal(*arguments: str, database_url: str, home: Path) -> str:
    """What a command shows on a terminal, which is all that it has; TERMINAL is its path."""
    ours, terminal = pty.openpty()
    arguments = tuple(os.ttyname(terminal) if word == "TERMINAL" else word for word in arguments)
    command = subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        cwd=home,
        env=command_environment(database_url, home, {"TERM": "xterm"}),
    )
    os.close(terminal)
    shown = b""
    with suppress(OSError):  # the terminal's last user has left it
        while piece := os.read(ours, 1 << 16):
            shown += piece
    os.close(ours)
    assert command.wait(PATIENCE) == 0, shown
    return shown.decode().replace("\r\n", "\n")


def test_rows_on_a_terminal_are_not_cut_by_a_bar(database_url: str, tmp_path: Path) -> None:
    expected = add_many_stores(database_url, 3000).decode()
    assert on_a_terminal("report", database_url=database_url, home=tmp_path) == expected
    shown = on_a_terminal("report", "--out", "TERMINAL", database_url=database_url, home=tmp_path)
    assert shown == expected


def test_a_terminal_shows_a_bar_while_the_rows_go_elsewhere(
    database_url: str, tmp_path: Path
) -> None:
    add_many_stores(database_url, 3000)
    shown = on_a_terminal("report", "--out", "x.csv", database_url=database_url, home=tmp_path)
    assert "Computing" in shown
    assert (tmp_path / "x.csv").read_bytes() == many_stores_report(range(1, 3001))
