"""The numbers of all advisory locks, kept together so that no two are the same."""

#: Held while migrations are applied; any number that other programs do not use.
MIGRATIONS = int.from_bytes(b"storewat")
#: Shared by the transactions that store a feed; whoever deletes polls has it alone.
STORE_A_FEED = 7_305_001
#: Held while a report is added, so that all instances together keep to the limit of the queue.
ADD_REPORTS = 7_305_002
#: Held by whoever looks which keys there are before making or revoking one.
KEYS = 7_305_003
