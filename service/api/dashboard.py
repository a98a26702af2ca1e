"""The dashboard at `/`: a page of plain files, which loads nothing from other sites."""

from functools import cache
from pathlib import Path
from typing import Any

from litestar import Request, Response, get

from service.web.files import static_file
from service.web.problems import Problem

_FILES = Path(__file__).resolve().parent.parent / "dashboard"
_MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'",
    "Referrer-Policy": "no-referrer",
    # Browsers check each file each time, mostly for a 304, so that files of different releases are
    # never mixed.
    "Cache-Control": "no-cache",
}


@get("/", include_in_schema=False, opt={"scope": "none"})
async def get_page(request: Request[Any, Any, Any]) -> Response[bytes]:
    """The page itself."""
    return _answer(request, "index.html")


@get("/dashboard/{name:path}", include_in_schema=False, opt={"scope": "none"})
async def get_file(request: Request[Any, Any, Any], name: str) -> Response[bytes]:
    """A file of the page."""
    return _answer(request, name.lstrip("/"))


ROUTES = [get_page, get_file]


def _answer(request: Request[Any, Any, Any], name: str) -> Response[bytes]:
    if name not in _names():
        raise Problem(404, "There is nothing at this path.")
    return static_file(request, _FILES / name, _MEDIA_TYPES[Path(name).suffix], _HEADERS)


@cache
def _names() -> frozenset[str]:
    files = (path for path in _FILES.rglob("*") if path.suffix in _MEDIA_TYPES)
    return frozenset(str(path.relative_to(_FILES)) for path in files)
