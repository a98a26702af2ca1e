"""Static files over HTTP: gzipped for clients that accept it, and 304 for those that have them.

werkzeug parses the headers `Accept`, `Accept-Encoding`, `If-Match`, `If-None-Match` and `Range`,
here and in other modules. Their lists with quotes, weights and units are easily parsed wrong, and
Litestar parses only `Accept`.
"""

import gzip
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from litestar import Request, Response
from werkzeug.datastructures import Accept, MIMEAccept
from werkzeug.http import parse_accept_header

from service.web.conditions import is_known


def takes_gzip(request: Request[Any, Any, Any]) -> bool:
    """Whether the client accepts gzip; one that does not say so does not."""
    accepted = parse_accept_header(request.headers.get("accept-encoding"), Accept)
    return accepted.quality("gzip") > 0


def accepted_types(request: Request[Any, Any, Any]) -> MIMEAccept:
    """The media types that the client accepts; one that does not say so accepts anything."""
    return parse_accept_header(request.headers.get("accept"), MIMEAccept)


def prefers_csv(request: Request[Any, Any, Any]) -> bool:
    """Whether the client prefers CSV to JSON; where nothing is said it does not."""
    json, csv = "application/json", "text/csv"
    return accepted_types(request).best_match([json, csv], default=json) == csv


def static_file(
    request: Request[Any, Any, Any], path: Path, media_type: str, headers: Mapping[str, str]
) -> Response[bytes]:
    """Answer with a file that does not change while the service runs.

    Args:
        request: asks for it
        path: where it is
        media_type: of the file
        headers: of the answer, besides those that this adds
    """
    body, zipped, tag = _read(path)
    gzipped = takes_gzip(request)
    if gzipped:  # another representation has another tag
        tag += "-gzip"
    headers = {**headers, "Vary": "Accept-Encoding", "ETag": f'"{tag}"'}
    if is_known(request.headers.get("if-none-match"), tag):
        return Response(b"", status_code=304, headers=headers)
    if gzipped:
        headers["Content-Encoding"] = "gzip"
    return Response(zipped if gzipped else body, media_type=media_type, headers=headers)


@cache
def _read(path: Path) -> tuple[bytes, bytes, str]:
    """A file, plain and gzipped, and a tag that differs from those of its other versions."""
    body = path.read_bytes()
    return body, gzip.compress(body, mtime=0), hashlib.sha256(body).hexdigest()[:16]
