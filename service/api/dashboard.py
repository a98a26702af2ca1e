"""The dashboard at `/`: a page made of plain files, nothing built and nothing from elsewhere."""

import gzip
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from litestar import Request, Response, get

from service.api.report_csv import takes_gzip
from service.web.conditions import is_known
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
    # Asked for again each time, and answered by 304: a new release is never mixed with an old one.
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}


@get("/", include_in_schema=False, opt={"scope": "none"})
async def get_page(request: Request[Any, Any, Any]) -> Response[bytes]:
    """The page itself."""
    return _answer(request, "index.html")


@get("/dashboard/{name:path}", include_in_schema=False, opt={"scope": "none"})
async def get_file(request: Request[Any, Any, Any], name: str) -> Response[bytes]:
    """One of the page's files."""
    return _answer(request, name.lstrip("/"))


ROUTES = [get_page, get_file]


def _answer(request: Request[Any, Any, Any], name: str) -> Response[bytes]:
    if name not in _names():
        raise Problem(404, "There is nothing at this path.")
    body, zipped, tag = _file(name)
    gzipped = takes_gzip(request)
    if gzipped:  # another representation has another tag
        tag += "-gzip"
    headers = {**_HEADERS, "ETag": f'"{tag}"'}
    if is_known(request.headers.get("if-none-match"), tag):
        return Response(b"", status_code=304, headers=headers)
    if gzipped:
        headers["Content-Encoding"] = "gzip"
    return Response(
        zipped if gzipped else body, media_type=_MEDIA_TYPES[Path(name).suffix], headers=headers
    )


@cache
def _names() -> frozenset[str]:
    files = (path for path in _FILES.rglob("*") if path.suffix in _MEDIA_TYPES)
    return frozenset(str(path.relative_to(_FILES)) for path in files)


@cache
def _file(name: str) -> tuple[bytes, bytes, str]:
    """A file plain and as gzip, and what tells it from other versions of it."""
    body = (_FILES / name).read_bytes()
    return body, gzip.compress(body, mtime=0), hashlib.sha256(body).hexdigest()[:16]
