"""What may import what: data goes one way, and so do imports. docs/architecture.md says why.

A room is a folder of `service/`, or a module of it that stands alone; `compute/` is one room.
"""

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]


class Room(NamedTuple):
    """What a room may import, beside itself and the standard library.

    Attributes:
        ours: rooms, all of which stand above it in the table
        others: packages that are not ours
    """

    ours: set[str]
    others: set[str]


def room(ours: str = "", others: str = "") -> Room:
    return Room(set(ours.split()), set(others.split()))


#: Every room, each below all that it may import. Whoever needs a new arrow draws it here, upwards.
ROOMS = {
    # Arrays and bytes in, arrays and bytes out: it could be lifted out and used alone.
    "compute": room(others="numpy tzdata"),
    "service": room(),
    # What knows of nothing else here.
    "service.spans": room(),
    "service.background": room(),
    "service.storage": room(),
    "service.failures": room(),
    "service.decoding": room(),
    "service.memory": room(),
    "service.signals": room(),
    "service.output_file": room(),
    "service.workers": room(),
    "service.counts": room(),
    "service.settings": room("", "msgspec"),
    "service.object_store": room(others="obstore"),
    "service.metrics": room("compute service.counts", "prometheus_client"),
    "service.logs": room("service.metrics", "msgspec"),
    # The database, and what lies in it. It gets its settings handed in.
    "service.database": room("", "asyncpg"),
    "service.keys": room("service.database", "asyncpg msgspec"),
    "service.stores": room("compute service.database", "asyncpg msgspec numpy"),
    "service.states": room(
        "compute service.database service.stores service.workers", "asyncpg msgspec numpy"
    ),
    "service.outages": room(
        "compute service.database service.states service.stores service.workers",
        "asyncpg msgspec numpy",
    ),
    # The data's way in, and its way out: neither knows of the other, nor of HTTP.
    "service.feeds": room(
        "compute service.counts service.database service.stores service.workers",
        "asyncpg backports compression msgspec numpy",
    ),
    # Reports on many machines.
    "service.cluster": room(
        "compute service.database service.stores service.workers",
        "asyncpg distributed msgspec numpy",
    ),
    "service.reports": room(
        "compute service.cluster service.counts service.database service.logs service.metrics"
        " service.object_store service.stores service.workers",
        "asyncpg msgspec numpy obstore pyarrow xlsxwriter",
    ),
    # Reports that go where they are wanted, and those that come by themselves.
    "service.deliveries": room(
        "compute service.database service.logs service.object_store service.reports",
        "asyncpg msgspec obstore",
    ),
    "service.schedules": room(
        "compute service.database service.deliveries service.reports", "asyncpg cronsim msgspec"
    ),
    # What happens is told to those who want to know.
    "service.webhooks": room(
        "compute service.database service.reports service.states service.stores",
        "aiohttp asyncpg msgspec numpy",
    ),
    # HTTP: what all answers share knows of no resource; a resource puts the two together.
    "service.web": room(
        "compute service.database service.keys service.logs service.settings",
        "asyncpg httptools litestar msgspec uvicorn werkzeug",
    ),
    "service.api": room(
        "compute service.database service.deliveries service.feeds service.keys service.logs"
        " service.metrics service.outages service.reports service.schedules service.settings"
        " service.states service.stores service.web service.webhooks service.workers",
        "asyncpg litestar msgspec numpy prometheus_client werkzeug",
    ),
    # What puts all of it together.
    "service.app": room(
        "service.api service.cluster service.database service.deliveries service.feeds"
        " service.keys service.logs service.outages service.reports service.schedules"
        " service.settings service.states service.web service.webhooks service.workers",
        "asyncpg litestar",
    ),
    "service.server": room(
        "service.app service.database service.keys service.settings service.web",
        "litestar uvicorn",
    ),
    "service.__main__": room(
        "compute service.database service.feeds service.keys service.logs service.output_file"
        " service.reports service.server service.settings service.signals service.stores"
        " service.workers",
        "asyncpg click msgspec rich",
    ),
    "service.command": room("service.__main__"),
}

#: Small modules without arrows of their own: every room of `service/` below may import them.
EVERYBODYS = {
    "service.background",
    "service.decoding",
    "service.failures",
    "service.memory",
    "service.spans",
    "service.storage",
}

#: Module and what it imports against the table, with the reason; one that is not needed must go.
EXCEPTIONS = {
    ("service.logs", "litestar"): "RequestLog, the log's ASGI layer, is typed by litestar.types",
}

#: All that the command imports before it knows what is asked.
BEFORE_THE_COMMAND = {"click", "service.reports.max_gap", "service.signals"}


def modules() -> dict[str, Path]:
    """Every module of ours, and its file."""
    files = (file for folder in ("compute", "service") for file in (ROOT / folder).rglob("*.py"))
    return {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
        for file in files
    }


MODULES = modules()


def room_of(module: str) -> str:
    """The room that a module of ours is in."""
    if module.partition(".")[0] == "compute":
        return "compute"
    return ".".join(module.split(".")[:2])


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of everything that is imported, also within functions and for types alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"line {node.lineno}: imports name the whole module"
            assert not node.level, f"line {node.lineno}: imports name the whole module"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield node.lineno, inner if inner in MODULES else node.module


def broken(module: str, source: str) -> Iterator[tuple[str, str]]:
    """What a module imports that it may not, and that in words."""
    here = room_of(module)
    file = MODULES[module].relative_to(ROOT)
    may = ROOMS.get(here, room())  # that the table lacks it is told by a test of its own
    for line, name in imports(ast.parse(source)):
        package = name.partition(".")[0]
        ours = package in ("compute", "service")
        wanted = room_of(name) if ours else package
        if wanted == here or package in sys.stdlib_module_names:
            continue
        if here != "compute" and wanted in EVERYBODYS:
            continue
        if wanted not in (may.ours if ours else may.others):
            allowed = ", ".join(sorted(may.ours if ours else may.others)) or "none"
            kind = "rooms" if ours else "packages"
            yield wanted, f"{file}:{line}: {here} imports {name}; {kind} that it may: {allowed}"


def test_every_room_is_in_the_table_below_all_that_it_may_import() -> None:
    rooms = {room_of(module) for module in MODULES}
    assert not rooms - ROOMS.keys(), "the table lacks a room"
    assert not ROOMS.keys() - rooms, "the table has a room that there is not"
    above: set[str] = set()
    for name, may in ROOMS.items():
        assert may.ours <= above, f"{name} may import what stands below it in the table"
        above.add(name)


def test_what_everybody_may_import_imports_nothing() -> None:
    assert all(ROOMS[name] == room() for name in EVERYBODYS)


def test_no_module_imports_what_its_room_may_not() -> None:
    found = [
        (module, wanted, told)
        for module, file in MODULES.items()
        for wanted, told in broken(module, file.read_text())
    ]
    wrong = [told for module, wanted, told in found if (module, wanted) not in EXCEPTIONS]
    assert not wrong, "\n".join(["against the rules of imports:", *wrong])
    excepted = {(module, wanted) for module, wanted, _ in found}
    assert EXCEPTIONS.keys() <= excepted, "an exception that is no longer needed stays in the table"


def test_no_module_imports_what_imports_it_also_within_a_room() -> None:
    graph = {
        module: {name for _, name in imports(ast.parse(file.read_text())) if name in MODULES}
        for module, file in MODULES.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as cycle:
        pytest.fail("imports in a circle: " + " <- ".join(cycle.args[1]))


@pytest.mark.parametrize(
    ("module", "source", "told"),
    [
        ("compute.axis", "\nfrom service.reports import queue", "compute/axis.py:2: compute"),
        ("compute.axis", "import asyncpg", "imports asyncpg; packages that it may: numpy, tzdata"),
        ("service.web.links", "def f():\n    import service.api", "service/web/links.py:2"),
        ("service.stores.known", "from service import app", "service.stores imports service.app"),
        ("service.feeds.ingest", "from service.reports.queue import Report", "service.feeds"),
        ("service.app", "from tests import conftest", "service.app imports tests; packages"),
    ],
)
def test_an_import_against_the_rules_is_told_with_its_file_and_line(
    module: str, source: str, told: str
) -> None:
    ((_, text),) = broken(module, source)
    assert told in text


def test_the_command_imports_only_what_every_command_needs() -> None:
    tree = ast.parse(MODULES["service.__main__"].read_text())
    at_once = ast.Module(
        [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], []
    )
    assert {
        name
        for _, name in imports(at_once)
        if name.partition(".")[0] not in sys.stdlib_module_names
    } == BEFORE_THE_COMMAND


def test_only_the_fork_server_imports_what_it_does_at_its_own_end() -> None:
    name = "service.workers.fork_server"
    assert name in MODULES
    importers = [
        module
        for module, file in MODULES.items()
        for _, imported in imports(ast.parse(file.read_text()))
        if imported == name
    ]
    assert importers == []
