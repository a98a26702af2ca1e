"""A page for each kind of problem, at `/problems/{slug}`: what it means, and what to do.

`type` of a problem document is its path. For people it is HTML that loads nothing else.
"""

from html import escape
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import MediaType, Request, Response, get

from service.web.files import accepted_types
from service.web.links import link
from service.web.problem_types import TYPES, ProblemType, path_of
from service.web.problems import MEDIA_TYPE, Problem

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
    "Vary": "Accept",
}


@get("/problems", include_in_schema=False, opt={"scope": "none"})
async def get_problems(request: Request[Any, Any, Any]) -> Response[bytes]:
    """All kinds."""
    rows = "".join(
        f'<li><a href="{escape(path_of(slug))}">{escape(kind.title)}</a> ({kind.status})'
        for slug, kind in TYPES.items()
    )
    items = [_members(slug, kind) for slug, kind in TYPES.items()]
    return _answer(request, "Problems", f"<ul>{rows}</ul>", {"items": items})


@get("/problems/{slug:str}", include_in_schema=False, opt={"scope": "none"})
async def get_problem(request: Request[Any, Any, Any], slug: str) -> Response[bytes]:
    """One kind."""
    if slug not in TYPES:
        raise Problem(404, "There is no problem type with this name: /problems lists them all.")
    kind = TYPES[slug]
    body = (
        f"<p>HTTP {kind.status} {HTTPStatus(kind.status).phrase}"
        f"<h2>What it means</h2><p>{_with_code(kind.meaning)}"
        f"<h2>What to do</h2><p>{_with_code(kind.what_to_do)}"
        f'<p><a href="{escape(link("/problems"))}">All problems</a>, '
        f'<a href="{escape(link("/schema"))}">the API</a>'
    )
    return _answer(request, kind.title, body, _members(slug, kind))


ROUTES = [get_problems, get_problem]


def _members(slug: str, kind: ProblemType) -> dict[str, Any]:
    return {"type": path_of(slug), **msgspec.structs.asdict(kind)}


def _with_code(text: str) -> str:
    """HTML of a text in which backticks mark code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))


def _answer(
    request: Request[Any, Any, Any], title: str, body: str, members: dict[str, Any]
) -> Response[bytes]:
    accepted = accepted_types(request)
    wanted = accepted.best_match([MediaType.HTML, MediaType.JSON, MEDIA_TYPE], MediaType.HTML)
    if wanted != MediaType.HTML:
        return Response(msgspec.json.encode(members), media_type=wanted, headers=_HEADERS)
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{escape(title)} · storewatch</title><h1>{escape(title)}</h1>{body}</html>\n"
    )
    return Response(page.encode(), media_type=MediaType.HTML, headers=_HEADERS)
