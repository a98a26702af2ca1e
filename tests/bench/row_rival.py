"""A row per poll, as somebody would write it in an afternoon: the rival of single polls.

    python -m tests.bench.row_rival DSN PORT

serves `POST /polls` with the same web framework; uvicorn chooses the fastest event loop and HTTP
parser that are installed. It checks types, and nothing else.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Literal

import asyncpg
import msgspec
import uvicorn
from litestar import Litestar, post
from litestar.datastructures import State

#: In a schema of its own: storewatch has a view of that name.
TABLE = """
create schema rival;
create table rival.poll (
    store_id text        not null,
    instant  timestamptz not null,
    active   boolean     not null,
    primary key (store_id, instant)
);
insert into rival.poll select store_id, instant, status = 'active' from poll;
analyze rival.poll;
"""


class Poll(msgspec.Struct, frozen=True):
    """A poll, as storewatch takes it."""

    store_id: str
    status: Literal["active", "inactive"]
    timestamp_utc: datetime


@post("/polls", status_code=200)
async def add_polls(data: list[Poll], state: State) -> dict[str, int]:
    async with state.pool.acquire() as connection:
        for poll in data:
            await connection.execute(
                """
                insert into rival.poll (store_id, instant, active) values ($1, $2, $3)
                on conflict (store_id, instant) do update set active = excluded.active
                """,
                poll.store_id,
                poll.timestamp_utc,
                poll.status == "active",
            )
    return {"rows": len(data)}


def create_app(dsn: str) -> Litestar:
    @asynccontextmanager
    async def pool(app: Litestar) -> AsyncIterator[None]:
        async with asyncpg.create_pool(dsn, min_size=20, max_size=20) as opened:
            app.state.pool = opened
            yield

    return Litestar([add_polls], lifespan=[pool], logging_config=None, openapi_config=None)


if __name__ == "__main__":
    uvicorn.run(
        create_app(sys.argv[1]),
        port=int(sys.argv[2]),
        log_config=None,
        access_log=False,
        backlog=2048,
    )
