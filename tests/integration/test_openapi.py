"""The OpenAPI document and its page: complete, of one shape, and served without anybody else."""

import gzip
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin
from uuid import uuid4

import pytest

from tests.harness.service import Service

TAGS = {"reports", "stores", "feeds", "webhooks", "keys", "operations"}
PUBLIC = {"getLiveness", "getReadiness"}
WRITING_GETS = {
    "triggerReport",
    "listKeys",
    "listWebhooks",
    "getWebhook",
    "listWebhookDeliveries",
    "getWebhookDelivery",
}


@pytest.fixture(scope="module")
def service(empty_service: Service) -> Service:
    """Without a feed, and without a key."""
    return empty_service


@pytest.fixture(scope="module")
def document(service: Service) -> Any:
    answer = service.get("/schema/openapi.json")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


@pytest.fixture(scope="module")
def operations(document: Any) -> dict[str, tuple[str, Any]]:
    """Method and description of each operation, by its id."""
    found = [
        (operation["operationId"], (method, operation))
        for path in document["paths"].values()
        for method, operation in path.items()
    ]
    assert not [name for name, count in Counter(name for name, _ in found).items() if count > 1]
    return dict(found)


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def test_it_is_openapi_3_1_and_every_reference_leads_somewhere(document: Any) -> None:
    assert document["openapi"].startswith("3.1.")
    schemas = document["components"]["schemas"]
    named = {reference.removeprefix("#/components/schemas/") for reference in references(document)}
    assert named == set(schemas)
    assert all(schema["description"] for schema in schemas.values())


def test_every_operation_has_a_tag_a_summary_and_a_description(
    document: Any, operations: dict[str, tuple[str, Any]]
) -> None:
    assert {tag["name"] for tag in document["tags"]} == TAGS
    for name, (_, operation) in operations.items():
        assert re.fullmatch(r"[a-z]+([A-Z][a-z]*)*", name)
        assert len(operation["tags"]) == 1
        assert operation["tags"][0] in TAGS
        assert operation["summary"]
        assert operation["description"]
    used = {operation["tags"][0] for _, operation in operations.values()}
    assert used == TAGS


def test_every_operation_tells_its_errors_as_problem_documents(
    operations: dict[str, tuple[str, Any]],
) -> None:
    for name, (_, operation) in operations.items():
        errors = {status: told for status, told in operation["responses"].items() if status >= "4"}
        assert "500" in errors
        assert {"401", "403"} <= set(errors) or name in PUBLIC
        for status, told in errors.items():
            schema = {"$ref": "#/components/schemas/ProblemDetails"}
            assert told["content"] == {"application/problem+json": {"schema": schema}}, status
        assert any(status < "400" for status in operation["responses"])


def test_every_operation_tells_which_key_it_needs(
    document: Any, operations: dict[str, tuple[str, Any]]
) -> None:
    schemes = document["components"]["securitySchemes"]
    assert (schemes["bearer"]["type"], schemes["bearer"]["scheme"]) == ("http", "bearer")
    assert (schemes["apiKey"]["in"], schemes["apiKey"]["name"]) == ("header", "X-API-Key")
    for name, (method, operation) in operations.items():
        scope = "read" if method in ("get", "head") and name not in WRITING_GETS else "write"
        expected = [] if name in PUBLIC else [{"bearer": [scope]}, {"apiKey": [scope]}]
        assert operation["security"] == expected


def test_feeds_are_csv_or_json_and_polls_are_ndjson_too(
    document: Any, operations: dict[str, tuple[str, Any]]
) -> None:
    rows = {
        "postPolls": "PollRow",
        "postBusinessHours": "BusinessHoursRow",
        "postTimezones": "TimezoneRow",
    }
    for name, row in rows.items():
        (json,) = operations[name][1]["requestBody"]["content"].items()
        assert json[0] == "application/json"
        assert json[1]["schema"]["items"] == {"$ref": f"#/components/schemas/{row}"}
        (csv,) = operations[f"{name}Csv"][1]["requestBody"]["content"].items()
        assert csv[0] == "text/csv"
        assert csv[1]["schema"]["format"] == "binary"
    (ndjson,) = operations["postPollsNdjson"][1]["requestBody"]["content"].items()
    assert ndjson[0] == "application/x-ndjson"
    assert ndjson[1]["schema"]["format"] == "binary"


def test_the_examples_of_feeds_are_feeds(service: Service, document: Any) -> None:
    bodies = {
        path: operations["post"]["requestBody"]["content"]
        for path, operations in document["paths"].items()
        if path.endswith(("/csv", "/ndjson")) and "post" in operations
    }
    assert bodies.keys() == {
        "/polls/csv",
        "/polls/ndjson",
        "/business-hours/csv",
        "/timezones/csv",
        "/special-hours/csv",
        "/exclusions/csv",
        "/feeds/stores/csv",
    }
    for path, content in bodies.items():
        [(media_type, body)] = content.items()
        headers = {"Content-Type": media_type}
        loaded = service.ask("POST", path, content=body["example"], headers=headers)
        rows = 2 if path == "/special-hours/csv" else 1
        assert (loaded.status_code, loaded.json()["rows"]) == (200, rows)


def test_what_may_be_null_is_said_by_its_type(document: Any) -> None:
    availability = document["components"]["schemas"]["StoreAvailability"]
    assert availability["properties"]["availability"]["type"] == ["number", "null"]
    assert set(availability["required"]) == set(availability["properties"])


def parts(part: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every object of the document, and where it stands."""
    if isinstance(part, dict):
        yield place, part
        for name, value in part.items():
            yield from parts(value, f"{place}/{name}")
    elif isinstance(part, list):
        for number, value in enumerate(part):
            yield from parts(value, f"{place}/{number}")


def test_a_choice_of_values_stands_in_a_component_of_its_own(document: Any) -> None:
    choices = {place for place, part in parts(document) if len(part.get("enum", ())) > 1}
    components = {f"/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert {"ReportStatus", "PollStatus", "Interpolation"} <= {
        place.rpartition("/")[2] for place in choices
    }
    assert choices <= components


def test_answers_are_open_to_further_values_and_requests_are_not(
    document: Any, operations: dict[str, tuple[str, Any]]
) -> None:
    schemas = document["components"]["schemas"]

    def enumerations(part: Any) -> set[str]:
        """Those that a part of the document leads to."""
        names = {reference.rpartition("/")[2] for reference in references(part)}
        deeper = (enumerations(schemas[name]) for name in names)
        return {name for name in names if "enum" in schemas[name]}.union(*deeper)

    told = [operation for _, operation in operations.values()]
    requests = [[one.get("parameters", []), one.get("requestBody", {})] for one in told]
    asked = enumerations(requests)
    answered = enumerations([operation["responses"] for operation in told])
    assert asked == {
        "DeliveryFormat",
        "DeliveryStatus",
        "Interpolation",
        "KeyScope",
        "PollStatus",
        "ReportUnit",
        "ReportStatus",
        "ScheduleAsOf",
        "StoreCondition",
        "TimelineState",
        "WebhookEvent",
    }
    assert answered == {name for name, schema in schemas.items() if "enum" in schema}
    for name in answered:
        text = schemas[name]["description"]
        assert "Later versions may answer with further values" in text
        assert ("A request takes only these values." in text) == (name in asked)


def test_every_member_parameter_and_header_is_described(document: Any) -> None:
    found = [
        (place, part)
        for place, part in parts(document)
        if place.split("/")[-2:-1] in (["properties"], ["parameters"], ["headers"])
    ]
    assert len(found) > 100
    assert [place for place, part in found if not part.get("description", "").strip()] == []


def test_one_thing_has_one_name(document: Any) -> None:
    names = {
        place.rpartition("/")[2]
        for place, _ in parts(document)
        if place.rpartition("/")[0].endswith("/properties")
    }
    assert {"day", "start_time_local", "end_time_local", "timestamp_utc", "timezone"} <= names
    assert not {"weekday", "instant"} & names
    schemas = document["components"]["schemas"]
    assert schemas["TimezoneRow"]["properties"]["timezone_str"]["deprecated"]
    gaps = [part for place, part in parts(document) if place.endswith("/properties/max_gap")]
    assert {gap["type"] for gap in gaps} == {"string"}


def test_options_tells_all_methods_of_a_path_that_the_document_has(
    service: Service, document: Any
) -> None:
    for path, methods in document["paths"].items():
        place = re.sub("{.*?}", str(uuid4()), path.replace("{key_id}", "1"))
        allowed = service.ask("OPTIONS", place).headers["allow"]
        known = {"OPTIONS", *(method.upper() for method in methods)}
        assert set(allowed.split(", ")) == known | ({"HEAD"} if "GET" in known else set())


def test_the_page_and_all_that_it_loads_come_from_the_service(service: Service) -> None:
    page = service.get("/schema")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    own = [link for link in loaded if not link.startswith("data:")]
    assert len(own) >= 4
    for link in own:
        path = urljoin("/schema", link)
        assert path.startswith("/schema/")
        asset = service.get(path, headers={"Accept-Encoding": "identity"})
        assert asset.status_code == 200
    script = service.get("/schema/page.js").text
    assert '"schema/openapi.json"' in script
    assert "http" not in script
    slash = service.get("/schema/")  # from where those references would lead elsewhere
    assert (slash.status_code, slash.headers["location"]) == (308, "/schema")


def test_assets_are_packed_for_those_who_take_gzip(service: Service) -> None:
    path = "/schema/swagger-ui.css"
    plain = service.get(path, headers={"Accept-Encoding": "gzip;q=0"})
    assert "content-encoding" not in plain.headers
    packed = service.get(path, headers={"Accept-Encoding": "br, gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["vary"] == "Accept-Encoding"
    assert packed.content == plain.content  # httpx unpacks
    assert int(packed.headers["content-length"]) < len(gzip.compress(plain.content)) + 100


def test_the_two_first_endpoints_are_deprecated_and_name_what_replaces_them(
    operations: dict[str, tuple[str, Any]],
) -> None:
    deprecated = {name for name, (_, told) in operations.items() if told.get("deprecated")}
    assert deprecated == {"triggerReport", "getReportStatus"}
    for name in deprecated:
        assert "/reports" in operations[name][1]["description"]
