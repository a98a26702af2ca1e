"""Bodies of JSON are what their schema says.

Litestar 2.25 reads them into the type of `data` laxly: 0 is false, "5" is 5, and null is nothing at
all. So handlers look again.
"""

from typing import Any

import msgspec
from litestar import Request

from service.api.problems import Problem, ProblemError


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
