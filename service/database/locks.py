"""The numbers of all advisory locks, kept together so that no two are the same."""

#: Held while migrations are applied; any number that other programs do not use.
MIGRATIONS = int.from_bytes(b"storewat")
#: Shared by the transactions that store a feed; whoever deletes polls has it alone.
STORE_A_FEED = 7_305_001
#: Held while a report is added, so that all instances together keep to the limit of the queue.
ADD_REPORTS = 7_305_002
#: Held by whoever looks which keys there are before making or revoking one.
KEYS = 7_305_003
#: Held by whoever makes or renames a schedule, so that their number and names keep their bounds.
SCHEDULES = 7_305_004
#: Held by whoever changes a note of an outage, which may be kept with another outage's.
OUTAGE_NOTES = 7_305_005
#: Held by whoever makes an endpoint of webhooks, so that their number keeps its bound.
WEBHOOKS = 7_305_006
#: Held by whoever makes months of polls or lets some go.
POLL_MONTHS = 7_305_007
