"""`max_gap`, for how long an observation speaks to either side: its bounds and its default.

Every door takes them from here. This module imports little, because the command line shows them in
its help.
"""

from service.spans import parse_span

DEFAULT_MAX_GAP = "24h"
_SHORTEST, _LONGEST = "1m", "31d"
#: The bounds, for people.
MAX_GAP_BOUNDS = f"{_SHORTEST} to {_LONGEST}"


def parse_max_gap(text: str) -> int:
    """Milliseconds of a span such as `24h`, `90m` or `1d12h`.

    Raises:
        ValueError: it is not a span, or is out of bounds; the message continues a sentence that
            begins with the text
    """
    span = parse_span(text)
    if not parse_span(_SHORTEST) <= span <= parse_span(_LONGEST):
        raise ValueError(f"is not between {_SHORTEST} and {_LONGEST}")
    return span
