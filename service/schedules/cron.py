"""The instants at which a cron expression fires, in the local time of a zone.

cronsim finds them. It does what Debian's cron does on the days when clocks change, which
docs/schedules.md tells. (croniter 7.0.0 fires twice at a time that clocks repeat, and needs
python-dateutil; crondst has had one release since 2024.)
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from compute.zones import TZ_VERSION, zone_names

#: Characters of an expression.
LONGEST_CRON = 120
_FIELDS = 5
#: Forth and back, cronsim may differ around a change of clocks; none is larger, but in days when
#: nobody kept a shop.
_LARGEST_CHANGE = timedelta(hours=3)


class CronRefused(ValueError):  # noqa: N818 - read by a person as a sentence
    """An expression that is none, or that never fires; continues a sentence that begins with it."""


class ZoneMissing(Exception):  # noqa: N818 - read by a person as a sentence
    """The tz database of this instance lacks the zone of a plan."""


class Plan:
    """When a schedule fires: at the most once a minute.

    Args:
        cron: an expression of five fields
        timezone: IANA name of the zone in whose local time they are

    Raises:
        CronRefused: the expression is none
        ZoneMissing: the tz database lacks the zone
    """

    def __init__(self, cron: str, timezone: str) -> None:
        if timezone not in zone_names():
            raise ZoneMissing(
                f"the tz database of this instance, version {TZ_VERSION}, lacks the zone {timezone}"
            )
        if len(cron.split()) != _FIELDS:
            raise CronRefused(
                "has to have five fields: minute, hour, day of the month, month, day of the week, "
                "such as `0 6 1 * *` for the first of each month at 06:00. There is no field of "
                "seconds, and no @daily"
            )
        self._cron = cron
        try:
            self._zone = ZoneInfo(timezone)
            CronSim(cron, datetime.now(UTC))
        except ZoneInfoNotFoundError:
            raise ZoneMissing(f"the tz database lacks the zone {timezone}") from None
        except CronSimError as error:
            raise CronRefused(
                f"is no cron expression: {str(error).lower()}. The five fields are minute, hour, "
                "day of the month, month and day of the week"
            ) from None

    def after(self, instant: datetime) -> Iterator[datetime]:
        """The instants after one at which it fires, in their order, in UTC.

        They end where it would not fire again for 50 years.
        """
        try:
            for local in CronSim(self._cron, instant.astimezone(self._zone)):
                fires = local.astimezone(UTC)
                # Begun within an hour that comes twice, it may begin with its first time over.
                # With `*` as the hour it may name a local time that clocks skip.
                there = fires.astimezone(self._zone).replace(tzinfo=None)
                if fires > instant and there == local.replace(tzinfo=None):
                    yield fires
        except OverflowError:  # the end of the calendar
            return

    def latest(self, fired: datetime, now: datetime) -> datetime:
        """The last instant at which it fires, not after now.

        Args:
            fired: one at which it fires
            now: not before that
        """
        before = next(CronSim(self._cron, now.astimezone(self._zone), reverse=True), None)
        latest = fired
        if before is not None:
            # `after` alone decides, from not far before: a year may have half a million of them.
            begin = max(fired, before.astimezone(UTC) - _LARGEST_CHANGE)
            for fires in self.after(begin):
                if fires > now:
                    break
                latest = fires
        return latest
