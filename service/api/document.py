"""The OpenAPI document of the service, and the page that shows it, which loads nothing from others.

Litestar makes the document from the handlers. What it cannot express is added here.
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, get_args

import msgspec
from litestar import MediaType, Request, Response, Router, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin
from litestar.openapi.spec import Components, License, Server, Tag
from litestar.response import Redirect

from compute import timeline
from compute.conditions import Condition
from compute.csv_rows import Unit
from compute.feed_header import Feed
from compute.uptime import Interpolation
from service import keys
from service.api import feeds
from service.api.operations import HealthStatus
from service.api.reports import LegacyStatus
from service.api.webhook_document import DATA_SCHEMAS, event_schemas, webhooks
from service.deliveries import table as deliveries
from service.feeds.json_rows import PollStatus
from service.reports import queue as reports
from service.schedules import table as schedules
from service.web.access import SECURITY_SCHEMES, needed_scope
from service.web.files import static_file
from service.web.links import link
from service.web.problems import Problem
from service.webhooks.events import WebhookEvent

_PAGE = Path(__file__).resolve().parent / "schema_page"
_ASSETS = {
    "page.js": "text/javascript",
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
}
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' "
    "'unsafe-inline'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}

_DESCRIPTION = """\
Feed the service polls, business hours and time zones; ask for a report over all stores, or for the
availability and the timeline of one store. Every instant is RFC 3339 in UTC. Measured durations are
numbers of seconds; durations in requests are texts such as `24h`. `availability = uptime / (uptime
+ downtime)`, null if both are 0. Time that no poll speaks for is `unknown`, never guessed.

Every error is `application/problem+json` (RFC 9457), and programs can tell its kind by its `type`.
"""

_TAGS = [
    Tag("reports", "Ask for a report over many stores, follow its progress, download its CSV."),
    Tag("stores", "What is known of a store, its state, and its availability over any window."),
    Tag("feeds", "Polls, business hours and time zones: CSV or, of polls, NDJSON; or small JSON."),
    Tag("webhooks", "Endpoints that are told of stores and reports, and what was delivered."),
    Tag("keys", "API keys, of which each request needs one once there is any."),
    Tag("operations", "For those who run the service: health and metrics."),
]

#: Headers that go with a status, whatever the operation.
_HEADERS_OF_STATUS: dict[str, dict[str, tuple[dict[str, str], str]]] = {
    "412": {"ETag": ({"type": "string"}, "Tag of the present version, if there is one.")},
    "401": {"WWW-Authenticate": ({"type": "string"}, "How to send a key (RFC 6750).")},
    "429": {"Retry-After": ({"type": "integer"}, "Seconds to wait before asking again.")},
    "503": {"Retry-After": ({"type": "integer"}, "Seconds to wait before asking again.")},
}


class _Enumeration(NamedTuple):
    values: Any  # a Literal
    description: str


_OPEN = "Later versions may answer with further values: treat unknown ones as “other”."
_CLOSED = "A request takes only these values."

#: Every choice of values, by the name that it has in the document and so in generated clients.
_ENUMERATIONS = {
    "DeliveryFormat": _Enumeration(
        deliveries.DeliveryFormat,
        "As what all stores of a report are delivered: its CSV, plain or gzipped; NDJSON, a line "
        f"for each store; Parquet, a row for each store and window. {_CLOSED} {_OPEN}",
    ),
    "DeliveryStatus": _Enumeration(
        deliveries.DeliveryState,
        "A delivery of a report's files, or of an event to a webhook, is `waiting` for its report "
        "or its next attempt, `delivered` when all of it has arrived, or `failed` when it is not "
        f"tried any more. {_CLOSED} {_OPEN}",
    ),
    "FeedName": _Enumeration(Feed, f"A feed. {_OPEN}"),
    "HealthStatus": _Enumeration(
        HealthStatus, f"How a part of the service is; if one is not well, 503 says so. {_OPEN}"
    ),
    "Interpolation": _Enumeration(
        Interpolation,
        "The status between two observations: that of the nearest, the earlier on a tie, or that "
        f"of the previous one. {_CLOSED} {_OPEN}",
    ),
    "KeyScope": _Enumeration(
        keys.Scope, f"What a key allows; `write` includes `read`. {_CLOSED} {_OPEN}"
    ),
    "LegacyReportStatus": _Enumeration(
        LegacyStatus,
        "The state of a report: queued or running; completed; failed or cancelled; not known, or "
        f"its file is no longer kept. {_OPEN}",
    ),
    "PollStatus": _Enumeration(
        PollStatus, f"What a store answered when it was asked. {_CLOSED} {_OPEN}"
    ),
    "StoreCondition": _Enumeration(
        Condition,
        "What a store of a report is like. `down_now`: downtime and no uptime in the last hour; "
        "`newly_down`: downtime in the last day, and none before it in the week; `recovered`: "
        "downtime in the last day, and in the last hour uptime and no downtime; `down_all_week`: "
        "downtime and no uptime in the last week; `nothing_known`: neither in the last week. "
        f"{_CLOSED} {_OPEN}",
    ),
    "ReportStatus": _Enumeration(
        reports.State,
        "The state of a report: it is `queued`, then `running`, and ends as `completed`, `failed` "
        "or `cancelled`; a completed one whose file is no longer kept is `expired`. "
        f"{_CLOSED} {_OPEN}",
    ),
    "ScheduleAsOf": _Enumeration(
        schedules.AsOf,
        "What no window of a schedule's reports reaches beyond: the instant that the plan tells, "
        f"or the newest poll when the report is made. {_CLOSED} {_OPEN}",
    ),
    "TimelineState": _Enumeration(
        timeline.State,
        "The state of a store: `closed` is time outside its business hours, `excluded` is time "
        "within them that counts neither for nor against it, `unknown` is time within them that no "
        f"observation speaks for. {_CLOSED} {_OPEN}",
    ),
    "WebhookEvent": _Enumeration(
        WebhookEvent,
        "What an endpoint is told of: a store is down for long enough, up again, or without polls "
        "for long enough; a report is completed or failed, or stores missed their target in it. "
        f"{_CLOSED} {_OPEN}",
    ),
    "ReportUnit": _Enumeration(Unit, f"What amounts of time are told in. {_CLOSED} {_OPEN}"),
}
_NAMES_OF_VALUES = {
    frozenset(get_args(values)): name for name, (values, _) in _ENUMERATIONS.items()
}
_NULL = {"type": "null"}
_SAID_OF_NOTHING = ("deprecated", "allowEmptyValue", "allowReserved")


def document(made: Mapping[str, Any], handlers: Iterable[HTTPRouteHandler]) -> dict[str, Any]:
    """What Litestar made of the handlers, completed: security, headers, shorter schemas, names."""
    whole: dict[str, Any] = _tidied(made)
    by_operation = {handler.operation_id: handler for handler in handlers}
    for operations in whole["paths"].values():
        for method, operation in operations.items():
            handler = by_operation.get(operation.get("operationId"))
            if handler is not None:
                _complete(operation, handler, method.upper())
    schemas = whole["components"]["schemas"]
    for name, schema in _struct_schemas({*schemas, *feeds.ROW_SCHEMAS, *DATA_SCHEMAS}).items():
        schemas[name] = _both(schemas.get(name, {}), schema)
    schemas |= event_schemas()
    whole["webhooks"] = webhooks()
    whole = _with_names(whole)
    enumerations = {
        name: {"title": name, "type": "string", "enum": list(get_args(values)), "description": text}
        for name, (values, text) in _ENUMERATIONS.items()
    }
    components = whole["components"]
    components["schemas"] = dict(sorted({**components["schemas"], **enumerations}.items()))
    return whole


def _with_names(part: Any) -> Any:
    """Refer to enumerations by name: of those written in place, each generator makes up a name."""
    if isinstance(part, list):
        return [_with_names(one) for one in part]
    if not isinstance(part, Mapping):
        return part
    named = {name: _with_names(value) for name, value in part.items()}
    values = named.get("enum", [named["const"]] if "const" in named else None)
    if not isinstance(values, list):
        return named
    name = _NAMES_OF_VALUES.get(frozenset(values) - {None})
    if name is None:
        return named
    reference = {"$ref": f"#/components/schemas/{name}"}
    more = {key: value for key, value in named.items() if key not in ("enum", "const", "type")}
    return {"anyOf": [reference, _NULL], **more} if None in values else {**reference, **more}


def _complete(operation: dict[str, Any], handler: HTTPRouteHandler, method: str) -> None:
    needed = needed_scope(handler.opt, method)
    operation["security"] = (
        [] if needed == "none" else [{name: [needed]} for name in SECURITY_SCHEMES]
    )
    for parameter in operation.get("parameters", ()):
        parameter["schema"] = _without_null(parameter["schema"])
        parameter["schema"].pop("description", None)  # the parameter itself says it
    for content in (body := operation.get("requestBody", {})).get("content", {}).values():
        choices = content["schema"].get("oneOf", [])
        if _NULL in choices:  # Litestar says that every body must be there, and may be null
            body["required"] = False
            (content["schema"],) = (choice for choice in choices if choice != _NULL)
    for status, response in operation["responses"].items():
        headers = response.get("headers", {})
        for name, (schema, text) in _HEADERS_OF_STATUS.get(status, {}).items():
            headers.setdefault(name, {"schema": schema, "description": text})
        for header in headers.values():
            header.setdefault("schema", {"type": "string"})
        if headers:
            response["headers"] = dict(sorted(headers.items()))  # from a set, so in any order


def _tidied(part: Any) -> Any:
    if isinstance(part, list):
        return [_tidied(one) for one in part]
    if not isinstance(part, Mapping):
        return part
    tidied = {
        name: _tidied(value)
        for name, value in part.items()
        if (name not in _SAID_OF_NOTHING or value is not False) and (name != "headers" or value)
    }
    # Litestar writes a member that may be left out, or that is described, as a choice of one.
    for choosing in ("oneOf", "allOf"):
        if isinstance(choices := tidied.get(choosing), list) and len(choices) == 1:
            del tidied[choosing]
            tidied = {**choices[0], **tidied}
    # ... what may be null as a choice of two, as msgspec does,
    for choosing in ("oneOf", "anyOf"):
        choices = tidied.get(choosing, [])
        others = [choice for choice in choices if choice != _NULL]
        if len(choices) == 2 and len(others) == 1 and isinstance(others[0].get("type"), str):
            kind = others[0]["type"]
            del tidied[choosing]
            tidied = {**others[0], **tidied, "type": [kind, "null"]}
            if "enum" in tidied:
                tidied["enum"] = [*tidied["enum"], None]
    # ... and every bound as a float, also an integer's.
    if tidied.get("type") in ("integer", ["integer", "null"]):
        for bound in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
            if isinstance(tidied.get(bound), float):
                tidied[bound] = int(tidied[bound])
    return tidied


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter that is left out is not null: there is no way to send null."""
    if isinstance(kinds := schema.get("type"), list):
        return {**schema, "type": next(kind for kind in kinds if kind != "null")}
    return dict(schema)


def _struct_schemas(names: set[str]) -> dict[str, Any]:
    """Structs as msgspec describes them: with their docstrings, and all that their Metas say."""
    structs: dict[str, type[msgspec.Struct]] = {}
    for struct in _structs(msgspec.Struct):
        of_api = struct.__module__.startswith("service.api.")
        if struct.__name__ in names and (of_api or struct.__name__ not in structs):
            structs[struct.__name__] = struct
    schemas = msgspec.json.schema_components(
        structs.values(), ref_template="#/components/schemas/{name}"
    )[1]
    for schema in schemas.values():
        text = inspect.cleandoc(schema.get("description", ""))
        schema["description"] = text.partition("\n\nAttributes:")[0]
    return {name: _tidied(schema) for name, schema in schemas.items()}


def _structs(base: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for struct in base.__subclasses__():
        yield struct
        yield from _structs(struct)


def _both(litestar: dict[str, Any], msgspec: dict[str, Any]) -> dict[str, Any]:
    """A Struct's schema by Litestar, with what only msgspec has; msgspec leaves out formats."""
    properties = dict(msgspec["properties"])
    for name, schema in litestar.get("properties", {}).items():
        more = dict(properties[name])
        if "oneOf" in schema:
            more.pop("anyOf", None)
        if "const" in schema:
            more.pop("enum", None)
        properties[name] = {**more, **schema}
    return {**litestar, **msgspec, "properties": properties}


class _Document(JsonRenderPlugin):
    """/schema/openapi.json."""

    def __init__(self) -> None:
        super().__init__(path="/openapi.json", media_type=MediaType.JSON)
        self._whole: dict[str, Any] = {}

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        if not self._whole:
            handlers = [
                handler
                for route in request.app.routes
                for handler in getattr(route, "route_handlers", ())
            ]
            self._whole = document(openapi_schema, handlers)
        # The prefix below which the service is served may differ from request to request.
        servers = [{**server, "url": link("") or "/"} for server in self._whole["servers"]]
        return self.render_json(request, {**self._whole, "servers": servers})


class _Page(OpenAPIRenderPlugin):
    """/schema."""

    def __init__(self) -> None:
        super().__init__(path="/", media_type=MediaType.HTML)

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return (_PAGE / "index.html").read_bytes()


@get([f"/{name}" for name in _ASSETS])
async def _get_asset(request: Request[Any, Any, Any]) -> Response[bytes]:
    """One of the page's own files."""
    name = request.url.path.rpartition("/")[2]
    headers = {"Cache-Control": "public, max-age=3600"}
    return static_file(request, _PAGE / name, _ASSETS[name], headers)


async def _answer_other_paths(request: Request[Any, Any, Any]) -> Redirect | None:
    if "path" in request.path_params:
        # Litestar answers what it does not know below /schema with a page of HTML.
        raise Problem(404, "There is nothing at this path.")
    if request.scope["raw_path"].endswith(b"/"):  # the page's references are relative to /schema
        return Redirect(link("/schema"), status_code=308)
    return None


def openapi_config() -> OpenAPIConfig:
    """What the document says of the service as a whole, and where the document is served."""
    return OpenAPIConfig(
        title="storewatch",
        version=version("storewatch"),
        summary="How long each store was up and down within its business hours",
        description=_DESCRIPTION,
        license=License("MIT", identifier="MIT"),
        servers=[Server("/", "This service.")],
        tags=_TAGS,
        components=Components(security_schemes=dict(SECURITY_SCHEMES)),
        use_handler_docstrings=True,
        render_plugins=[_Page(), _Document()],
        openapi_router=Router(
            "/schema",
            route_handlers=[_get_asset],
            before_request=_answer_other_paths,
            response_headers=_PAGE_HEADERS,
            include_in_schema=False,
            opt={"scope": "none"},
        ),
    )
