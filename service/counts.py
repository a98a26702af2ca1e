"""What this process has done since it started, as plain numbers, which `/metrics` shows.

A command shows none, and need not load what does: that takes a tenth of the time of a small one.
"""

from collections import Counter

#: Rows of feeds that were stored, by feed.
INGEST_ROWS: Counter[str] = Counter()
#: Feeds that were refused, by feed.
INGEST_REFUSED: Counter[str] = Counter()
#: What reports had: `stores` written, `polls` read.
REPORTED: Counter[str] = Counter()
