"""What the documents show is there: commands and options, settings, requests, links, targets."""

import json
import re
import shlex
import warnings
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import click
import jsonschema_rs
import pytest

from service.__main__ import main
from service.api.document import document as openapi_document
from service.app import create_app
from service.settings import Settings, read_settings

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
#: All but the CHANGELOG: what it tells of need not be there any more.
DOCUMENTS = sorted(
    [
        file
        for pattern in ("*.md", "docs/*.md", "tests/*/README.md", ".github/*.md")
        for file in ROOT.glob(pattern)
        if file.name != "CHANGELOG.md"
    ]
)
of_each_document = pytest.mark.parametrize(
    "file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT))
)


class Text(NamedTuple):
    """A document in two parts.

    Attributes:
        prose: all but its blocks of code
        shown: lines of those, without a prompt; one that is indented goes on the line before
    """

    prose: str
    shown: list[str]

    @property
    def inline(self) -> list[str]:
        """What stands between backticks in the prose, each on one line."""
        return [re.sub(r"\s+", " ", code) for code in re.findall(r"`([^`]+)`", self.prose)]


@cache
def read(file: Path) -> Text:
    """A document, taken apart."""
    prose: list[str] = []
    shown: list[str] = []
    fenced = False
    for line in file.read_text().splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif line.startswith("     ") and shown:
            shown[-1] += " " + line.strip()
        elif fenced or line.startswith("    "):
            shown.append(line.strip().removeprefix("$ "))
        else:
            prose.append(line)
    return Text("\n".join(prose), shown)


def code(file: Path) -> list[str]:
    """All code of a document: its lines in blocks, then what stands in the prose."""
    text = read(file)
    return [*text.shown, *text.inline]


# Commands.


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that some words begin with, and the rest of them."""
    command: click.Command = main
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"storewatch has no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


def options_of(command: click.Command) -> dict[str, click.Option]:
    options = [option for option in command.params if isinstance(option, click.Option)]
    return {name: option for option in options for name in option.opts}


@of_each_document
def test_commands_and_their_options_are_there(file: Path) -> None:
    for line in code(file):
        words = re.sub(r"[\[\]…,]", " ", line).split()
        if not words or words[0] not in ("storewatch", "serve"):
            continue
        command, rest = command_of(words[words[0] == "storewatch" :])
        options = options_of(command)
        for word, value in pairwise([*rest, ""]):
            if not word.startswith("--"):
                continue
            assert word in options, f"{line}: there is no {word}"
            kind = options[word].type
            if isinstance(kind, click.Choice) and "|" in value:
                assert tuple(value.split("|")) == tuple(kind.choices)


def test_the_readme_shows_all_that_a_load_and_a_report_can_be_told() -> None:
    text = read(README)
    for name in ("ingest", "report", "delete-polls"):
        (line,) = (line for line in text.shown if line.startswith(f"storewatch {name} "))
        for option in options_of(main.commands[name]):
            told = option in line or f"`{option}`" in text.prose
            assert told, f"README does not show `storewatch {name} {option}`"


def test_the_readme_shows_the_default_of_the_gap() -> None:
    (shown,) = re.findall(r"\[--max-gap (\w+)\]", README.read_text())
    assert shown == options_of(main.commands["report"])["--max-gap"].default


@of_each_document
def test_what_is_made_is_a_target(file: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in code(file):
        if found := re.match(r"make ([a-z]+)\b", line):
            assert found[1] in targets, f"{line}: there is no such target"


# Settings.


def variable(name: str) -> str:
    return name.upper() if name.startswith("database_") else f"STOREWATCH_{name.upper()}"


#: How the README tells of defaults that are no values.
TOLD = {
    "database_url": "an embedded one",
    "home": "`/var/lib/storewatch` as root, else `~/.local/share/storewatch`",
    "reports": "`reports` in the home folder",
    "connections": "what the limit of open files allows, up to 10,000",
}


def test_the_readmes_table_of_settings_is_that_of_the_service() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.+) \| (.+) \|$", read(README).prose, re.MULTILINE)
    names = dict(
        zip(map(variable, Settings.__struct_fields__), Settings.__struct_fields__, strict=True)
    )
    assert {row[0] for row in rows} == names.keys()
    assert len(rows) == len(names)
    defaults = read_settings({})
    for shown, meaning, default in rows:
        name = names[shown]
        assert meaning.strip()
        if name in TOLD:
            assert default == TOLD[name]
        else:
            text = "" if default == "none" else default
            told = getattr(read_settings({shown: text}), name)
            assert told == getattr(defaults, name), f"{shown}: the default is another"
            if default == "none":
                assert not told


@of_each_document
def test_the_settings_that_are_named_are_there(file: Path) -> None:
    known = set(map(variable, Settings.__struct_fields__))
    named = set(re.findall(r"STOREWATCH_[A-Z_]*[A-Z]", file.read_text()))
    assert named <= known


# Requests.


class Asked(NamedTuple):
    """A request as a document shows it."""

    method: str
    url: str
    body: str | None
    answer: str | None


@cache
def api() -> tuple[dict[str, Any], set[tuple[str, str]]]:
    """The OpenAPI document, and method and path of all that the service answers beside it."""
    with warnings.catch_warnings():
        # Litestar 2.25 warns of forms that its next major version no longer takes.
        warnings.simplefilter("ignore", DeprecationWarning)
        app = create_app(read_settings({}), streams=1)
        made = app.openapi_schema.to_schema()
    handlers = [handler for route in app.routes for handler in getattr(route, "route_handlers", ())]
    others = {
        (method, route.path) for route in app.routes for method in getattr(route, "methods", ())
    }
    return openapi_document(made, handlers), others


def by_curl(file: Path) -> list[Asked]:
    asked = []
    for line, following in pairwise([*read(file).shown, ""]):
        if not line.startswith("curl "):
            continue
        words = shlex.split(line, comments=True)
        given = dict(pairwise(words))
        body = given.get("--json")
        method = given.get("-X", "GET" if body is None and "-T" not in given else "POST")
        (url,) = (word for word in words if re.match(r"(http://)?(localhost|127\.0\.0\.1):", word))
        answer = following if following.startswith("{") else None
        asked.append(Asked(method, url if "://" in url else f"http://{url}", body, answer))
    return asked


def in_words(file: Path) -> list[Asked]:
    found = (re.fullmatch(r"([A-Z]+) (/\S*)", part) for part in read(file).inline)
    return [Asked(one[1], f"http://host{one[2]}", None, None) for one in found if one]


def operation_of(asked: Asked) -> dict[str, Any] | None:
    """What the document says of it; None: it is not in there, and answered all the same."""
    whole, others = api()
    path = urlsplit(asked.url).path
    for template, operations in whole["paths"].items():
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template))
        if re.fullmatch(pattern, path) and asked.method.lower() in operations:
            operation: dict[str, Any] = operations[asked.method.lower()]
            return operation
    assert (asked.method, path) in others, f"there is no {asked.method} {path}"
    return None


def check(schema: dict[str, Any], text: str) -> None:
    """What is written in JSON is what a schema of the document says."""
    rooted = schema | {"components": api()[0]["components"]}
    jsonschema_rs.validator_for(rooted, validate_formats=True).validate(json.loads(text))


@of_each_document
def test_requests_are_those_of_the_openapi_document(file: Path) -> None:
    for asked in (*by_curl(file), *in_words(file)):
        operation = operation_of(asked)
        if operation is None:
            continue
        parameters = operation.get("parameters", [])
        known = {one["name"] for one in parameters if one["in"] == "query"}
        assert {name for name, _ in parse_qsl(urlsplit(asked.url).query)} <= known
        if asked.body is not None:
            check(operation["requestBody"]["content"]["application/json"]["schema"], asked.body)
        if asked.answer is not None:
            (success,) = (told for status, told in operation["responses"].items() if status < "3")
            check(success["content"]["application/json"]["schema"], asked.answer)


def test_the_readme_shows_requests() -> None:
    assert len(by_curl(README)) > 10
    assert len(in_words(README)) > 5


def test_examples_in_the_openapi_document_are_what_their_schemas_say() -> None:
    examples: list[tuple[dict[str, Any], str]] = []

    def look(part: Any) -> None:
        if isinstance(part, dict):
            given = part.get("examples", ())
            if isinstance(given, list):
                examples.extend((part, json.dumps(example)) for example in given)
            for value in part.values():
                look(value)
        elif isinstance(part, list):
            for value in part:
                look(value)

    look(api()[0])
    assert examples
    for schema, example in examples:
        check(schema, example)


# Links and paths.


def anchors(file: Path) -> set[str]:
    """What can be linked to within a document, as its host makes it of the headings."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@of_each_document
def test_links_lead_somewhere(file: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", file.read_text()):
        if urlsplit(target).scheme:
            continue
        path, _, anchor = target.partition("#")
        there = file.parent / path if path else file
        assert there.exists(), f"{target}: there is no such file"
        assert not anchor or anchor in anchors(there), f"{target}: there is no such heading"


@of_each_document
def test_files_that_are_named_are_there(file: Path) -> None:
    ours = re.compile(r"(service|compute|migrations|tests|docs|\.github)/[\w./-]*")
    for path in (word for line in code(file) for word in line.split() if ours.fullmatch(word)):
        assert (ROOT / path).exists(), f"there is no {path}"
