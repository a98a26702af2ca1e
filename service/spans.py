"""Spans of time: `90m`, `24h`, `1d12h`, and the less strict forms in which people write them."""

import re
from decimal import Decimal

#: A span, also for JSON schemas. It allows the empty text too, which `min_length` has to exclude.
SPAN_PATTERN = "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$"
_UNITS = {  # in milliseconds
    word: size
    for words, size in (
        ("w wk week", 604_800_000),
        ("d day", 86_400_000),
        ("h hr hour", 3_600_000),
        ("m min minute", 60_000),
        ("s sec second", 1000),
    )
    for word in words.split()
}
_PART = r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]+)\s*"


def parse_span(text: str) -> int:
    """Milliseconds of a span such as `24h`, `90m` or `1d12h`.

    Raises:
        ValueError: it is not one; the message continues a sentence that begins with the text
    """
    if not re.fullmatch(SPAN_PATTERN, text) or not text:
        raise ValueError("is not a span of time such as 24h, 90m or 1d12h")
    return sum(int(part[:-1]) * _UNITS[part[-1]] for part in re.findall(r"\d+\D", text))


def read_span(text: str) -> int:
    """Milliseconds of a span as people write it: `30 days`, `1 d 12 h`, `90 min`, `1.5 weeks`.

    Whatever `parse_span` reads means the same here. Each unit may come once.

    Raises:
        ValueError: it is not one; the message continues a sentence that begins with the text
    """
    text = text.strip().lower()
    parts = re.findall(_PART, text)
    sizes = [_UNITS.get(word) or _UNITS.get(word.removesuffix("s"), 0) for _, word in parts]
    if not re.fullmatch(f"({_PART})+", text) or 0 in sizes or len(set(sizes)) < len(sizes):
        raise ValueError("is not a span of time such as 30d, 2 weeks, 90 min or 1 day 12 h")
    return int(sum(Decimal(part[0]) * size for part, size in zip(parts, sizes, strict=True)))


def format_span(milliseconds: int) -> str:
    """The text of a span that `parse_span` reads back, such as `24h`; cut to whole seconds."""
    text, rest = "", milliseconds
    for unit in ("h", "m", "s"):
        count, rest = divmod(rest, _UNITS[unit])
        text += f"{count}{unit}" if count else ""
    return text or "0s"
