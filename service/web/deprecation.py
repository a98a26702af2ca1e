"""What the answers of a deprecated operation say of it (RFC 9745)."""

from datetime import UTC, datetime

from litestar.datastructures import ResponseHeader

from service.web.links import link

_SINCE = datetime(2026, 11, 24, tzinfo=UTC)

#: What OpenAPI says of the headers that `deprecation` makes.
DEPRECATION_HEADERS = [
    ResponseHeader(
        name="Deprecation",
        documentation_only=True,
        description="Since when it is deprecated: `@` and seconds since 1970 (RFC 9745).",
    ),
    ResponseHeader(
        name="Link",
        documentation_only=True,
        description='Where that is explained, `rel="deprecation"`, and what takes its place, '
        '`rel="successor-version"` (RFC 8288).',
    ),
]


def deprecation(tag: str, operation_id: str) -> dict[str, str]:
    """The headers of an answer of an operation, which /reports takes the place of."""
    explained = f'<{link(f"/schema#/{tag}/{operation_id}")}>; rel="deprecation"; type="text/html"'
    return {
        "Deprecation": f"@{int(_SINCE.timestamp())}",
        "Link": f'{explained}, <{link("/reports")}>; rel="successor-version"',
    }
