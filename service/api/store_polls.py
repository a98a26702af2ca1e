"""The polls of a store as a download, in the form in which feeds of polls are loaded."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from typing import Annotated, Any

import asyncpg
import msgspec
import numpy as np
from litestar import Request, get
from litestar.openapi.spec import Operation
from litestar.params import QueryParameter
from litestar.response import Stream

from compute.axis import Ints
from compute.instants import LATEST_MS
from service.api.stores import EncodedId, decoded_id, known_store
from service.stores.polls import polls_of_store
from service.web.downloads import Downloads
from service.web.files import accepted_types
from service.web.instants import to_milliseconds
from service.web.problems import documented, refused

_CSV, _NDJSON = "text/csv", "application/x-ndjson"
_DOWNLOADS = Downloads(8)
#: Polls that are written at a time: half a megabyte of text.
_AT_ONCE = 10_000


class _PollsOperation(Operation):
    """What Litestar cannot know: the handler makes the response itself."""

    def to_schema(self) -> dict[str, Any]:
        schema = super().to_schema()
        text = {"schema": {"type": "string", "format": "binary"}}
        schema["responses"]["200"] = {
            "description": "The polls, in the order of their instants.",
            "content": {_CSV: text, _NDJSON: text},
        }
        return schema


@get(
    "/stores/{store_id:str}/polls",
    operation_id="getStorePolls",
    summary="A store's polls",
    tags=["stores"],
    opt={"scope": "read"},
    operation_class=_PollsOperation,
    responses=documented(404, 422),
)
async def get_store_polls(
    request: Request[Any, Any, Any],
    pool: asyncpg.Pool,
    store_id: EncodedId,
    first: Annotated[
        str | None,
        QueryParameter(
            name="from",
            schema_extra={"format": "date-time"},
            description="The first instant; UTC if it has no offset. Left out: all before `to`.",
        ),
    ] = None,
    end: Annotated[
        str | None,
        QueryParameter(
            name="to",
            schema_extra={"format": "date-time"},
            description="The end, not included. Left out: all from `from` on.",
        ),
    ] = None,
) -> Stream:
    """Download the polls of a store: CSV, or NDJSON if `Accept` asks for `application/x-ndjson`.

    Both are what `POST /polls` takes. What is loaded meanwhile may be among them.
    """
    begin = to_milliseconds(first, "from") or 0
    until = LATEST_MS + 1 if end is None else to_milliseconds(end, "to")
    if begin >= until:
        raise refused("to", "is not after `from`")
    store = await known_store(pool, decoded_id(store_id))
    _DOWNLOADS.check()
    accepted = accepted_types(request)
    as_csv = accepted.best_match([_CSV, _NDJSON], default=_CSV) == _CSV
    polls = polls_of_store(pool, store.number, begin, until)
    return Stream(
        _DOWNLOADS.sent(_written(store.store_id, polls, as_csv=as_csv)),
        media_type=_CSV if as_csv else _NDJSON,
        headers={
            "Vary": "Accept",
            "Cache-Control": "private, no-cache",
            "Content-Disposition": f'attachment; filename="polls.{"csv" if as_csv else "ndjson"}"',
        },
    )


ROUTES = [get_store_polls]


async def _written(
    store_id: str, polls: AsyncIterator[Ints], *, as_csv: bool
) -> AsyncIterator[bytes]:
    """Polls as text, piece by piece."""
    if as_csv:
        yield b"store_id,status,timestamp_utc\n"
    async for some in polls:
        for start in range(0, len(some), _AT_ONCE):
            yield await asyncio.to_thread(_text, store_id, some[start : start + _AT_ONCE], as_csv)


def _text(store_id: str, poll: Ints, as_csv: bool) -> bytes:
    """Polls of a store, as `compute.polls` describes a `poll`: rows of CSV or lines of NDJSON."""
    instants = np.datetime_as_string((poll >> 1).astype("datetime64[ms]")).tolist()
    active = (poll & 1).tolist()
    if as_csv:
        field = io.StringIO()
        csv.writer(field, lineterminator="").writerow([store_id])
        before, middle, after = f"{field.getvalue()},", ",", "Z\n"
    else:
        told = msgspec.json.encode(store_id).decode()
        before = f'{{"store_id":{told},"status":"'
        middle, after = '","timestamp_utc":"', 'Z"}\n'
    status = ("inactive", "active")
    return "".join(
        f"{before}{status[is_active]}{middle}{instant}{after}"
        for is_active, instant in zip(active, instants, strict=True)
    ).encode()
