"""Requests must be as the OpenAPI document says: nothing in a query or a body is quietly ignored.

Litestar 2.25 ignores query parameters that no handler takes, and all but the last value of one that
is given twice. It reads JSON bodies into the type of `data` laxly: 0 becomes false, "5" becomes 5,
and null counts as no body at all. So a guard checks the query again, and the handlers the body.
"""

from functools import cache
from typing import Any

import msgspec
from litestar import Litestar, Request
from litestar.connection import ASGIConnection
from litestar.enums import ParamType
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.routes import HTTPRoute

from service.decoding import problem_and_path
from service.web.problems import Problem, ProblemError

#: How many faults are listed, and how many characters of an unknown name are repeated.
_MOST_TOLD, _LONGEST_NAME = 20, 100


async def check_query(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Litestar's guard of all routes: refuses parameters that the operation does not document.

    Operations that are not in the document may pass, and so may deprecated ones, which stay as they
    always were.

    Raises:
        Problem: a parameter is unknown, or takes one value and is given more than once
    """
    handler = connection.scope["route_handler"]  # itself: a guard is given a copy, each time
    if not isinstance(handler, HTTPRouteHandler) or not connection.scope["query_string"]:
        return
    if handler.deprecated or not handler.resolve_include_in_schema():
        return
    is_list = _query_of(connection.app, handler)
    names = [name for name, _ in connection.query_params.multi_items()]
    given = sorted(set(names))  # Litestar gives them in any order
    known = f"it takes {', '.join(sorted(is_list))}" if is_list else "it takes none"
    faults = [
        (name, f"is not a parameter of this operation; {known}")
        for name in given
        if name not in is_list
    ]
    faults += [
        (name, "is given more than once")
        for name in given
        if is_list.get(name) is False and names.count(name) > 1
    ]
    if not faults:
        return
    told = [(name[:_LONGEST_NAME], problem) for name, problem in faults[:_MOST_TOLD]]
    raise Problem(
        422,
        "; ".join(f"query {name}: {problem}" for name, problem in told[:3]),
        slug="invalid-request",
        errors=[ProblemError(problem=text, source="query", field=name) for name, text in told],
        count=len(faults),
    )


@cache
def _query_of(app: Litestar, handler: HTTPRouteHandler) -> dict[str, bool]:
    """Names of the query parameters of a handler and its dependencies; whether each is a list."""
    model = next(
        model
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for known, model in route.route_handler_map.values()
        if known is handler
    )
    return {
        parameter.field_alias: parameter.is_sequence
        for parameter in model.expected_query_params
        if parameter.param_type == ParamType.QUERY
    }


def given_members(data: msgspec.Struct) -> dict[str, Any]:
    """The members that a body has, of those that may be left out: name → value."""
    return {
        name: value
        for name, value in msgspec.structs.asdict(data).items()
        if not isinstance(value, msgspec.UnsetType)
    }


async def check_body(request: Request[Any, Any, Any], wanted: Any) -> None:
    """Check that a body, if there is one, is strictly of the type `wanted`.

    Raises:
        Problem: it is of another type
    """
    body = await request.body()
    if not body:
        return
    try:
        msgspec.json.decode(body, type=wanted)
    except msgspec.ValidationError as error:
        problem, field = problem_and_path(error)
        raise Problem(
            422,
            f"body {field}: {problem}".replace(" :", ":"),
            slug="invalid-request",
            errors=[ProblemError(problem=problem, source="body", field=field or msgspec.UNSET)],
            count=1,
        ) from None
