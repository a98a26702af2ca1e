"""What schemathesis does not know by itself: NDJSON is sent as it is, like CSV."""

import schemathesis

schemathesis.serializer.alias("application/x-ndjson", "application/octet-stream")
