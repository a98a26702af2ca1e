"""Requests are what the document says of them: nothing in a query or a body is quietly left aside.

Litestar 2.25 ignores parameters of the query that no handler takes, and all but the last of one
that is given twice. It reads bodies of JSON into the type of `data` laxly: 0 is false, "5" is 5,
and null is nothing at all. So a guard and the handlers look again.
"""

from functools import cache
from typing import Any

import msgspec
from litestar import Litestar, Request
from litestar.connection import ASGIConnection
from litestar.enums import ParamType
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.routes import HTTPRoute

from service.web.problems import Problem, ProblemError

#: Faults that are told one by one, and characters of a name that are repeated.
_MOST_TOLD, _LONGEST_NAME = 20, 100


async def check_query(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Litestar's guard of all routes: refuses parameters that the operation does not document.

    What is not in the document is let pass, and so are deprecated operations, which stay as they
    are.

    Raises:
        Problem: a parameter is not known, or is given more than once and has one value
    """
    handler = connection.scope["route_handler"]  # itself: a guard is given a copy, each time
    if not isinstance(handler, HTTPRouteHandler) or not connection.scope["query_string"]:
        return
    if handler.deprecated or not handler.resolve_include_in_schema():
        return
    is_list = _query_of(connection.app, handler)
    names = [name for name, _ in connection.query_params.multi_items()]
    given = sorted(set(names))  # Litestar tells them in any order
    known = f"known are {', '.join(sorted(is_list))}" if is_list else "there are none here"
    faults = [(name, f"is not a parameter; {known}") for name in given if name not in is_list]
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


async def check_body(request: Request[Any, Any, Any], wanted: Any) -> None:
    """Let a body pass that is of the type `wanted`, or none.

    Raises:
        Problem: it is of another type
    """
    body = await request.body()
    if not body:
        return
    try:
        msgspec.json.decode(body, type=wanted)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `$")
        field = place.strip(".`")
        raise Problem(
            422,
            f"body {field}: {problem}".replace(" :", ":"),
            slug="invalid-request",
            errors=[ProblemError(problem=problem, source="body", field=field or msgspec.UNSET)],
            count=1,
        ) from None
