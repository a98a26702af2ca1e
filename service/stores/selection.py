"""Which stores are wanted: some by their ids, or those with certain tags."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from compute.feed_values import tag_key_problem, tag_value_problem


class TagRefused(ValueError):  # noqa: N818 - read by a person as a sentence
    """A text that names no tag; the message continues a sentence that begins with the text."""


@dataclass(frozen=True)
class Selection:
    """What a store must be; all of it must hold.

    Attributes:
        named: it has one of these ids; None: any
        tags: it has all of these, key → value
        without: it has no tag with one of these keys
    """

    named: tuple[str, ...] | None = None
    tags: tuple[tuple[str, str], ...] = ()
    without: tuple[str, ...] = ()

    @property
    def is_all(self) -> bool:
        """Whether every store is wanted."""
        return self == Selection()

    @property
    def arguments(self) -> tuple[Sequence[str] | None, str | None, Sequence[str]]:
        """Ids, tags as JSON, and keys, as queries take them."""
        tags = msgspec.json.encode(dict(self.tags)).decode() if self.tags else None
        return self.named, tags, self.without


def with_tags(texts: Sequence[str], named: Sequence[str] | None = None) -> Selection:
    """Stores that have all tags of some texts.

    Args:
        texts: `key:value`; without a value, a store must have no tag of this key
        named: ids that they must have, too; None: any

    Raises:
        TagRefused: a text is neither
    """
    tags: dict[str, str] = {}
    without: list[str] = []
    for text in texts:
        key, colon, value = text.partition(":")
        if not colon:
            raise TagRefused("is not `key:value`, such as region:west")
        if problem := tag_key_problem(key):
            raise TagRefused(f"its key {problem}")
        if problem := tag_value_problem(value):
            raise TagRefused(f"its value {problem}")
        # No store has two values of one key: then none is wanted.
        if not value or tags.setdefault(key, value) != value:
            without.append(key)
    return Selection(None if named is None else tuple(named), tuple(tags.items()), tuple(without))
