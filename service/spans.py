"""Spans of time as people write them: `90m`, `24h`, `1d12h`."""

import re

#: A span, for schemas too, which know no word for a text that is all left out.
SPAN_PATTERN = "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$"
_UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000}


def parse_span(text: str) -> int:
    """Milliseconds of a span such as `24h`, `90m` or `1d12h`.

    Raises:
        ValueError: it is no span; reads on after the text itself
    """
    if not re.fullmatch(SPAN_PATTERN, text) or not text:
        raise ValueError("is not a span of time such as 24h, 90m or 1d12h")
    return sum(int(part[:-1]) * _UNITS[part[-1]] for part in re.findall(r"\d+\D", text))


def format_span(milliseconds: int) -> str:
    """A text that `parse_span` reads as so many milliseconds, such as `24h`; cut to seconds."""
    text, rest = "", milliseconds
    for unit in ("h", "m", "s"):
        count, rest = divmod(rest, _UNITS[unit])
        text += f"{count}{unit}" if count else ""
    return text or "0s"
