"""The OpenAPI document satisfies linters, and breaks nothing for a client of the last release.

Of each release the document is kept: with the next one, its file takes the place of the old one,
and breaking-changes.toml is empty again.
"""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.clients.breaking_changes import OPEN, breaking_changes
from tests.clients.tools import HERE, run

LAST_RELEASE = HERE / "openapi-0.2.0.json"


def test_redocly_finds_nothing(document: Path, node_modules: Path) -> None:
    config = ("--config", HERE / "redocly.yaml")
    run(
        node_modules / ".bin" / "redocly",
        *("lint", document, *config, "--format", "stylish"),
        environment={"REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"},
        silent=False,
    )


def test_spectral_finds_nothing(document: Path, node_modules: Path) -> None:
    config = ("--ruleset", HERE / "spectral.yaml", "--fail-severity", "hint")
    run(node_modules / ".bin" / "spectral", "lint", document, *config)


def test_what_breaks_clients_of_the_last_release_is_meant(document: Path) -> None:
    old, new = json.loads(LAST_RELEASE.read_text()), json.loads(document.read_text())
    meant = tomllib.loads((HERE / "breaking-changes.toml").read_text())
    found = breaking_changes(old, new)
    assert found - meant.keys() == set(), "not meant, or not written down in breaking-changes.toml"
    assert meant.keys() - found == set(), "breaking-changes.toml tells of what is not so"
    assert all(meant.values()), "a reason is missing"


# The comparison itself, on small changes of a document.

Change = Callable[[Any], object]
BREAKING: list[tuple[Change, str]] = [
    (lambda new: new["paths"]["/stores"].pop("get"), "GET /stores: gone"),
    (lambda new: new["paths"]["/stores"]["get"].update(operationId="all"),
     "GET /stores: its operationId is another"),
    (lambda new: new["paths"]["/stores"]["get"]["parameters"].pop(), "GET /stores: no parameter q"),
    (lambda new: new["paths"]["/stores"]["get"]["parameters"][0].update(required=True),
     "GET /stores: must have the parameter q"),
    (lambda new: new["paths"]["/stores"]["get"]["parameters"][0]["schema"].update(maxLength=9),
     "GET /stores?q: its maxLength is tighter"),
    (lambda new: new["paths"]["/stores"]["get"]["parameters"][0]["schema"].update(pattern="^a"),
     "GET /stores?q: its pattern is another"),
    (lambda new: new["paths"]["/stores"]["post"]["requestBody"].update(required=True),
     "POST /stores: must have a body"),
    (lambda new: new["paths"]["/stores"]["get"]["responses"].pop("200"), "GET /stores 200: gone"),
    (lambda new: new["paths"]["/stores"]["get"]["responses"]["200"]["headers"].pop("Link"),
     "GET /stores 200: no header Link"),
    (lambda new: new["paths"]["/stores"]["get"]["responses"]["200"]["content"].clear(),
     "GET /stores 200: no application/json"),
    (lambda new: new["components"]["schemas"]["Asked"]["required"].append("kind"),
     "requests Asked.kind: must be given"),
    (lambda new: new["components"]["schemas"]["Asked"]["properties"].pop("kind"),
     "requests Asked.kind: gone"),
    (lambda new: new["components"]["schemas"]["Asked"]["properties"]["kind"]["enum"].remove("a"),
     "requests Asked.kind: no longer 'a'"),
    (lambda new: new["components"]["schemas"]["Asked"]["properties"]["size"].update(type="integer"),
     "requests Asked.size: no longer number"),
    (lambda new: new["components"]["schemas"]["Told"]["properties"].pop("state"),
     "answers Told.state: gone"),
    (lambda new: new["components"]["schemas"]["Told"]["required"].remove("state"),
     "answers Told.state: may be missing"),
    (lambda new: new["components"]["schemas"]["State"]["enum"].append("c"),
     "answers State: may be 'c'"),
    (lambda new: new["components"]["schemas"].update(Unused={"type": "string"}),
     "component Unused: is something else"),
    (lambda new: new["components"]["schemas"].pop("Unused"), "component Unused: gone"),
    (lambda new: new["components"]["schemas"]["Told"]["properties"].update(
        state={"anyOf": [{"$ref": "#/components/schemas/State"}, {"type": "null"}]}),
     "answers State: may be null"),
]  # fmt: skip
HARMLESS: list[Change] = [
    lambda new: new["paths"].update({"/more": {}}),
    lambda new: new["paths"]["/stores"]["get"]["parameters"].append(
        {"in": "query", "name": "more", "schema": {"type": "string"}}
    ),
    lambda new: new["components"]["schemas"]["Asked"]["properties"]["kind"]["enum"].append("c"),
    lambda new: new["components"]["schemas"]["Asked"]["properties"]["size"].update(minimum=0),
    lambda new: new["components"]["schemas"]["Told"]["properties"].update(more={"type": "null"}),
    lambda new: new["components"]["schemas"]["Told"]["properties"]["count"].update(type="integer"),
    lambda new: new["components"]["schemas"]["Open"]["enum"].append("c"),
]


def small_document() -> Any:
    def answer(name: str) -> Any:
        schema = {"$ref": f"#/components/schemas/{name}"}
        link = {"Link": {"schema": {"type": "string"}}}
        return {"200": {"content": {"application/json": {"schema": schema}}, "headers": link}}

    text = {"type": "string", "maxLength": 10}
    reference = {"$ref": "#/components/schemas/Asked"}
    return {
        "paths": {
            "/stores": {
                "get": {
                    "operationId": "list",
                    "parameters": [{"in": "query", "name": "q", "schema": text}],
                    "responses": answer("Told"),
                },
                "post": {
                    "operationId": "add",
                    "requestBody": {"content": {"application/json": {"schema": reference}}},
                    "responses": answer("Open"),
                },
            }
        },
        "components": {
            "schemas": {
                "Asked": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": [],
                    "properties": {
                        "kind": {"enum": ["a", "b"]},
                        "size": {"type": "number", "minimum": 1},
                    },
                },
                "Told": {
                    "type": "object",
                    "required": ["state", "count"],
                    "properties": {
                        "state": {"$ref": "#/components/schemas/State"},
                        "count": {"type": "number"},
                    },
                },
                "Unused": {"type": "object"},
                "State": {"type": "string", "enum": ["a", "b"]},
                "Open": {"type": "string", "enum": ["a", "b"], "description": f"{OPEN}: so."},
            }
        },
    }


@pytest.mark.parametrize(("change", "told"), BREAKING, ids=[told for _, told in BREAKING])
def test_a_breaking_change_is_found(change: Change, told: str) -> None:
    new = small_document()
    change(new)
    assert breaking_changes(small_document(), new) == {told}


@pytest.mark.parametrize("change", HARMLESS)
def test_what_only_adds_breaks_nothing(change: Change) -> None:
    new = small_document()
    change(new)
    assert breaking_changes(small_document(), new) == set()
