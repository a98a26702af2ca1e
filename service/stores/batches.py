"""Pages of stores with their polls, as the kernel takes them."""

from collections.abc import Mapping

import numpy as np

from compute.batch import Question, StoreBatch
from compute.business_hours import HOURS
from compute.packed_rows import DATED_WEEKS, NO_ROWS, SPECIAL_HOURS, PackedRows, PackedTexts
from compute.zones import ZoneUnknown, zone_names
from service.stores.exclusions import Exclusions
from service.stores.packed import indexes_of
from service.stores.selection import Selection
from service.stores.snapshot import Snapshot, StoreColumns


async def known_zones(stored: Snapshot, wanted: Selection) -> dict[int, str]:
    """Names of zones by their number in the database, as `read_batch` takes them.

    Raises:
        ZoneUnknown: the tz database lacks the zone of one of the stores
    """
    zones = await stored.zone_names()
    lacking = [number for number, name in zones.items() if name not in zone_names()]
    if lacking and (lost := await stored.stores_in(lacking, wanted)):
        raise ZoneUnknown(lost)
    return zones


async def read_batch(
    stored: Snapshot,
    page: StoreColumns,
    zones: Mapping[int, str],
    question: Question,
    excluded: Exclusions,
) -> StoreBatch:
    """A page of stores with their polls, as the kernel takes it.

    Args:
        stored: where to read
        page: the stores
        zones: names by number; only those of the page's stores go on
        question: whose days' polls matter
        excluded: what touches the question's time
    """
    used, zone = np.unique(page.timezone, return_inverse=True)
    if used[0] == 0:  # none given
        used, zone = used[1:], zone - 1
    polls = await stored.polls(page.id, question.day_ranges)
    return StoreBatch(
        store_ids=page.store_ids,
        id_size=page.id_size,
        hours=PackedRows(page.hours, page.hours_size // HOURS.itemsize),
        zone=zone,
        zone_names=tuple(zones[number] for number in used.tolist()),
        polls=polls.packed,
        poll_store=indexes_of(page.id, polls.store),
        poll_day=polls.day,
        poll_size=polls.size,
        dated_weeks=PackedRows(page.dated_weeks, page.dated_weeks_size // DATED_WEEKS.itemsize),
        special_hours=PackedRows(
            page.special_hours, page.special_hours_size // SPECIAL_HOURS.itemsize
        ),
        exclusions=await stored.covering(excluded, page) if excluded else NO_ROWS,
        names=PackedTexts(page.names, page.names_size),
        tags=PackedTexts(page.tags, page.tags_size),
        targets=page.targets,
        first=page.first,
    )
