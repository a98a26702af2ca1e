"""Spans of time: the strict form of the API, and the free one of the settings."""

import re

import pytest

from service.spans import SPAN_PATTERN, format_span, parse_span, read_span

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
STRICT = {"24h": 24 * HOUR, "90m": 90 * MINUTE, "1d12h": 36 * HOUR, "1h2m3s": 3_723_000, "0s": 0}


@pytest.mark.parametrize(("text", "span"), STRICT.items())
def test_a_span_means_the_same_in_both_forms(text: str, span: int) -> None:
    assert parse_span(text) == read_span(text) == span
    assert re.fullmatch(SPAN_PATTERN, text)


@pytest.mark.parametrize(
    ("text", "span"),
    {
        "30d": 30 * DAY,
        "30 days": 30 * DAY,
        "1 Day": DAY,
        " 1 d 12 h ": 36 * HOUR,
        "1d12h": 36 * HOUR,
        "12 h 1 d": 36 * HOUR,
        "90 min": 90 * MINUTE,
        "90MIN": 90 * MINUTE,
        "5 minutes 30 secs": 330_000,
        "2 weeks": 14 * DAY,
        "2W": 14 * DAY,
        "3 hrs": 3 * HOUR,
        "1.5 hours": 90 * MINUTE,
        "0.1s": 100,
    }.items(),
)
def test_a_span_may_be_written_as_people_do(text: str, span: int) -> None:
    assert read_span(text) == span


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "5",
        "d",
        "-1d",
        "3 months",
        "1h 1h",
        "1h 60 hours",
        "1d,2h",
        "1d and 2h",
        "1e3s",
        "٣d",
    ],
)
def test_what_is_no_span_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="is not a span of time such as 30d, 2 weeks"):
        read_span(text)


@pytest.mark.parametrize("text", ["", "30 days", "1 d", "1D", "12h1d", "1.5h", "2w", "90min"])
def test_the_api_takes_the_strict_form_alone(text: str) -> None:
    with pytest.raises(ValueError, match="is not a span of time such as 24h"):
        parse_span(text)


@pytest.mark.parametrize("span", [0, 1000, 36 * HOUR, 31 * DAY, 3_723_000])
def test_a_span_that_is_told_is_read_as_the_same(span: int) -> None:
    assert parse_span(format_span(span)) == span
