"""What OPTIONS answers for paths that several handlers share.

Litestar 2.25 answers OPTIONS itself, but makes the answer when it registers the first handler of a
path, and keeps it when it registers more: `Allow` then lacks their methods. So our handlers of
OPTIONS are registered first.
"""

from collections import defaultdict
from collections.abc import Iterable

from litestar import Response, route
from litestar.handlers import HTTPRouteHandler


def options(handlers: Iterable[HTTPRouteHandler]) -> list[HTTPRouteHandler]:
    """Handlers of OPTIONS for the paths that more than one of the given handlers have."""
    methods_of: dict[str, list[str]] = defaultdict(list)
    for handler in handlers:
        for path in handler.paths:
            methods_of[path] += handler.http_methods
    return [_answering(path, methods) for path, methods in methods_of.items() if len(methods) > 1]


def _answering(path: str, methods: list[str]) -> HTTPRouteHandler:
    allow = ", ".join(sorted([*methods, "OPTIONS"]))

    @route(path, http_method="OPTIONS", status_code=204, include_in_schema=False)
    async def tell() -> Response[None]:
        return Response(None, status_code=204, headers={"Allow": allow})

    return tell
