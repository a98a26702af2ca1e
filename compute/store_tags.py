"""Tags of stores, packed as JSON objects → columns: of each key, which store has which value.

Many stores have the same tags, so each distinct object is read once.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from compute.axis import Ints
from compute.packed_rows import PackedTexts
from compute.zones import DEFAULT_TIMEZONE

#: Stands for a store without a tag of the key.
NO_VALUE = -1


@dataclass(frozen=True)
class TagColumn:
    """The tags of one key.

    Attributes:
        values: those that there are, each once
        index: int32[stores], index into `values`, or `NO_VALUE`: the store has no tag of the key
    """

    values: tuple[str, ...]
    index: npt.NDArray[np.int32]


#: Of stores without any tag.
NO_TAGS: Mapping[str, TagColumn] = MappingProxyType({})


def tag_columns(tags: PackedTexts, stores: int) -> dict[str, TagColumn]:
    """The tags of a batch of stores by their keys, those that any of the stores has.

    Args:
        tags: of each store a JSON object, key → value, both text
        stores: how many there are
    """
    if not tags.packed:
        return {}
    texts = tags.each(stores)
    distinct = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    number = np.fromiter(map(distinct.__getitem__, texts), dtype=np.int64, count=stores)
    objects = json.loads(b"[%b]" % b",".join(text or b"{}" for text in distinct))
    columns = {}
    for key in dict.fromkeys(chain.from_iterable(objects)):
        of_texts = [tags_of_text.get(key) for tags_of_text in objects]
        values = dict.fromkeys(value for value in of_texts if value is not None)
        numbers = {value: index for index, value in enumerate(values)}
        of_text = [NO_VALUE if value is None else numbers[value] for value in of_texts]
        index = np.array(of_text, dtype=np.int32)
        columns[key] = TagColumn(tuple(numbers), index[number])
    return columns


def zone_column(zone: Ints, zone_names: Sequence[str]) -> TagColumn:
    """The zones that stores are computed in, like a tag that each of them has.

    Args:
        zone: int64[stores], index into `zone_names`, or -1: none given
        zone_names: IANA names
    """
    names = (*zone_names, DEFAULT_TIMEZONE)
    return TagColumn(names, (zone % len(names)).astype(np.int32))
