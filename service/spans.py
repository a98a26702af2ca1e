"""Spans of time as people write them: `90m`, `24h`, `1d12h`."""

import re

_UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000}


def parse_span(text: str) -> int:
    """Milliseconds of a span such as `24h`, `90m` or `1d12h`.

    Raises:
        ValueError: it is no span; reads on after the text itself
    """
    if not re.fullmatch(r"(\d+d)?(\d+h)?(\d+m)?(\d+s)?", text, re.ASCII) or not text:
        raise ValueError("is not a span of time such as 24h, 90m or 1d12h")
    return sum(int(part[:-1]) * _UNITS[part[-1]] for part in re.findall(r"\d+\D", text))


def format_span(milliseconds: int) -> str:
    """A text that `parse_span` reads as so many milliseconds, such as `24h`; cut to seconds."""
    text, rest = "", milliseconds
    for unit in ("h", "m", "s"):
        count, rest = divmod(rest, _UNITS[unit])
        text += f"{count}{unit}" if count else ""
    return text or "0s"
