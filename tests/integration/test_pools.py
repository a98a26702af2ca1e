"""Connections that are used one after the other, by whoever needs one."""

import asyncio

import pytest

from service.database.pool import REQUESTS, pool_of


@pytest.mark.parametrize(
    ("plain", "found"),
    [(False, "storewatch"), (True, "changed")],
    ids=["set back", "left as it was"],
)
def test_a_session_is_set_back_unless_all_promise_to_leave_it_as_it_was(
    database_url: str, plain: bool, found: str
) -> None:
    async def name_after_a_change() -> str:
        async with pool_of(database_url, REQUESTS, 1, plain=plain) as pool:
            await pool.execute("set application_name = 'changed'")
            name: str = await pool.fetchval("show application_name")
            return name

    assert asyncio.run(name_after_a_change()) == found
