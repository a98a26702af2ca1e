"""How the answers of a deprecated operation say that it is deprecated (RFC 9745)."""

from datetime import UTC, datetime

from litestar.datastructures import ResponseHeader

from service.web.links import link

_SINCE = datetime(2026, 11, 24, tzinfo=UTC)

#: What OpenAPI says of the headers that `deprecation` makes.
DEPRECATION_HEADERS = [
    ResponseHeader(
        name="Deprecation",
        documentation_only=True,
        description="Since when the operation is deprecated: `@` and seconds since 1970 "
        "(RFC 9745).",
    ),
    ResponseHeader(
        name="Link",
        documentation_only=True,
        description='Where the deprecation is explained, `rel="deprecation"`, and what replaces '
        "the operation, "
        '`rel="successor-version"` (RFC 8288).',
    ),
]


def deprecation(tag: str, operation_id: str) -> dict[str, str]:
    """The headers of an answer of an operation that /reports replaces."""
    explained = f'<{link(f"/schema#/{tag}/{operation_id}")}>; rel="deprecation"; type="text/html"'
    return {
        "Deprecation": f"@{int(_SINCE.timestamp())}",
        "Link": f'{explained}, <{link("/reports")}>; rel="successor-version"',
    }
