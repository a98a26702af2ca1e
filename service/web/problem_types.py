"""The kinds of problem that the service tells of; no problem is of another kind."""

import msgspec

from service.web.links import link


class ProblemType(msgspec.Struct, frozen=True):
    """A kind of problem.

    Attributes:
        status: HTTP status that goes with it
        title: what it is, in a few words
        meaning: what happened
        what_to_do: advice to the person or the program that asked
    """

    status: int
    title: str
    meaning: str
    what_to_do: str


_ASK_THE_OPERATOR = "If it does not pass, tell whoever runs the service, with the X-Request-ID."

#: Every kind, by its slug: the last segment of its page's path.
TYPES = {
    "bad-request": ProblemType(
        400,
        "Bad request",
        "The request could not be read: its body is not what its Content-Type says, it ended "
        "before its end, or a part of it is malformed.",
        "Look at how the request is made: the encoding of the body (UTF-8), its JSON, its gzip. "
        "The same request again gets the same answer.",
    ),
    "unauthorized": ProblemType(
        401,
        "Key needed",
        "The service asks for an API key, and the request has none.",
        "Send a key as `Authorization: Bearer …` or as `X-API-Key: …`. Whoever runs the service "
        "makes one by `storewatch keys create`, or by POST /keys.",
    ),
    "key-not-valid": ProblemType(
        401,
        "Key not valid",
        "The key in the request was revoked, or there never was one like it; or Authorization and "
        "X-API-Key hold two different keys.",
        "Check that the whole key is sent, in one of the two headers. Else ask for a new key.",
    ),
    "key-needed": ProblemType(
        403,
        "Only this machine is served",
        "No API key is made yet. As long as that is so, the service answers only programs on its "
        "own machine: nothing from another address, through a proxy, or from a web page of another "
        "site.",
        "Make a key by `storewatch keys create`, and send it.",
    ),
    "scope-too-small": ProblemType(
        403,
        "Scope too small",
        "The key is valid, but may only read; this request changes something.",
        "Use a key of scope write.",
    ),
    "not-found": ProblemType(
        404,
        "Not found",
        "There is nothing at this path.",
        "Compare the path with those that the API page lists, at /schema. In a path the id of a "
        "store is percent-encoded as a whole.",
    ),
    "store-not-found": ProblemType(
        404,
        "Store not found",
        "No feed has named a store with this id.",
        "Check the id, letter by letter. A store exists as soon as a feed names it.",
    ),
    "report-not-found": ProblemType(
        404,
        "Report not found",
        "There is no report with this id: it was deleted, or there never was one.",
        "Look it up in the list of reports, or ask for a new one.",
    ),
    "summary-not-found": ProblemType(
        404,
        "Summary not found",
        "There is no completed report with this id, or it was made by a version of the service "
        "that kept no summary.",
        "Wait until the report is completed, or ask for a new one.",
    ),
    "report-rows-not-found": ProblemType(
        404,
        "Rows not found",
        "The report was made by a version of the service that kept no exact totals of its stores, "
        "or kept them in another form.",
        "Ask for a new report with the same options. The CSV of this one is still there.",
    ),
    "method-not-allowed": ProblemType(
        405,
        "Method not allowed",
        "The path exists, but does not know this method.",
        "The header Allow lists the methods that the path knows.",
    ),
    "key-not-found": ProblemType(
        404,
        "Key not found",
        "There never was an API key with this id.",
        "GET /keys lists the keys with their ids.",
    ),
    "key-exists": ProblemType(
        409,
        "Key exists",
        "A key that is valid has this name. If it was made by the same request, whose answer was "
        "lost, nobody can see it again.",
        "Take another name, or revoke that key first.",
    ),
    "too-many-keys": ProblemType(
        409,
        "Too many keys",
        "As many API keys are valid as may be.",
        "Revoke those that nobody uses: GET /keys tells when each was last used.",
    ),
    "no-write-key-left": ProblemType(
        409,
        "No key of scope write left",
        "After this no valid key would have scope write, so nobody could load feeds or make "
        "another key over HTTP.",
        "Make a key of scope write first. Whoever runs the service can revoke the last one by "
        "`storewatch keys revoke`.",
    ),
    "no-polls": ProblemType(
        409,
        "No polls",
        "The question has no end, which by default is the newest poll's instant, and there is no "
        "poll yet.",
        "Load polls first, or say in the request at which instant to look.",
    ),
    "report-not-completed": ProblemType(
        409,
        "Report not completed",
        "The report waits or runs, so its file is not there yet.",
        "Ask again after the seconds that Retry-After tells, or follow the report's events.",
    ),
    "report-failed": ProblemType(
        409,
        "Report failed",
        "The report failed, so it has no file. `detail` tells why.",
        "Mend what `detail` names, and ask for a new report.",
    ),
    "report-cancelled": ProblemType(
        409,
        "Report cancelled",
        "The report was cancelled, so it has no file.",
        "Ask for a new report.",
    ),
    "request-timeout": ProblemType(
        408,
        "Too slow",
        "The request, or its body, did not come in the time that the service waits for it.",
        "Send it again, on a better line or in smaller parts.",
    ),
    "request-header-fields-too-large": ProblemType(
        431,
        "Head too large",
        "The request's line and headers have more than 64 KiB.",
        "Send fewer or shorter headers; what is long belongs into the body.",
    ),
    "not-implemented": ProblemType(
        501,
        "Not implemented",
        "The request uses a part of HTTP that the service does not know, such as a transfer coding "
        "other than chunked.",
        "Send it with Content-Length, or chunked.",
    ),
    "no-room": ProblemType(
        503,
        "No room for the body",
        "So many bodies of requests come in at the same time that there is no memory for another.",
        "Send it again after the seconds that Retry-After tells.",
    ),
    "too-many-connections": ProblemType(
        503,
        "Too many connections",
        "All connections that the service takes are busy.",
        "Try again after the seconds that Retry-After tells, and use one connection for many "
        "requests.",
    ),
    "too-many-streams": ProblemType(
        503,
        "Too many streams",
        "As many streams of events are open as this instance takes.",
        "Ask for the report itself instead, every few seconds.",
    ),
    "too-many-downloads": ProblemType(
        503,
        "Too many downloads",
        "As many tables of reports are being downloaded as this instance sends at once.",
        "Ask again after the seconds that Retry-After tells.",
    ),
    "storage-full": ProblemType(
        507,
        "Disk full",
        "A disk of the service, or of its database, is full. Nothing of the request was stored.",
        "Tell whoever runs the service; its log names the disk. Then send the request again.",
    ),
    "storage-unavailable": ProblemType(
        503,
        "Storage unavailable",
        "A folder or an object store that the service needs does not work.",
        "Tell whoever runs the service; its log names the place. Then send the request again.",
    ),
    "report-ended": ProblemType(
        409,
        "Report ended",
        "A report that is completed, failed or expired cannot be cancelled.",
        "Its status tells how it ended. DELETE removes it.",
    ),
    "report-not-ended": ProblemType(
        409,
        "Report not ended",
        "A report that waits or runs cannot be deleted.",
        "Cancel it first, by POST to its path and `/cancel`, or wait until it has ended.",
    ),
    "zone-unknown": ProblemType(
        409,
        "Time zone unknown",
        "A store is in a time zone that the tz database of this instance lacks: a newer instance "
        "let it in.",
        "Give the store another zone, or have the service's package tzdata updated.",
    ),
    "report-expired": ProblemType(
        410,
        "Report expired",
        "The report's file is no longer kept.",
        "Ask for a new report; with the same `as_of` and unchanged data it has the same bytes. How "
        "long files are kept is a setting of the service.",
    ),
    "precondition-failed": ProblemType(
        412,
        "Precondition failed",
        "If-Match or If-None-Match said on what condition to write, and it does not hold: somebody "
        "else changed what is to be written, or it is there already. Nothing was written.",
        "Read it again, decide anew, and send the change with the ETag that you then have.",
    ),
    "request-entity-too-large": ProblemType(
        413,
        "Body too large",
        "The body is larger than is taken here. Of a packed one, what it unpacks to counts.",
        "Send it in parts. Feeds as CSV may be far larger than feeds as JSON.",
    ),
    "unsupported-media-type": ProblemType(
        415,
        "Unsupported media type",
        "The body's type or encoding is not one that is taken here.",
        "Say in Content-Type what the body is: Accept-Post lists what is taken. A packed one is "
        "gzip.",
    ),
    "requested-range-not-satisfiable": ProblemType(
        416,
        "Range lies outside",
        "The range that was asked for lies outside of the file.",
        "Content-Range tells the file's size.",
    ),
    "invalid-request": ProblemType(
        422,
        "Invalid request",
        "The request can be read, but a value in it is not allowed. Nothing was changed.",
        "`errors` names each such value by the part of the request it is in, and says what is "
        "wrong with it.",
    ),
    "feed-refused": ProblemType(
        422,
        "Feed refused",
        "Rows of the feed are bad, so nothing of it was stored.",
        "`errors` names them by line and column, the first of them if there are many; `count` says "
        "how many there are. Mend them, and send the whole feed again.",
    ),
    "feed-not-recognised": ProblemType(
        422,
        "Feed not recognised",
        "The first line of the file does not tell which feed it is: it has the columns of no feed, "
        "or of several. Nothing was stored.",
        "Compare the line in `detail` with the columns that GET /feeds lists, capitals included; "
        "`errors` says what each feed lacks. A file that fits several feeds is sent to the path of "
        "the one that it is.",
    ),
    "idempotency-key-reused": ProblemType(
        422,
        "Idempotency key reused",
        "This Idempotency-Key was used before, for a report with other options.",
        "Take a new key for each new report, and the same one only to repeat a request.",
    ),
    "unknown-stores": ProblemType(
        422,
        "Unknown stores",
        "The report was asked for stores that no feed has named.",
        "`errors` names them, the first of them if there are many. Leave them out, or load their "
        "feeds first.",
    ),
    "queue-full": ProblemType(
        429,
        "Queue full",
        "As many reports wait for their turn as may.",
        "Ask again after the seconds that Retry-After tells.",
    ),
    "internal-server-error": ProblemType(
        500,
        "Internal server error",
        "The service failed in a way that nobody expected. The fault is not the request's.",
        "Try again. If it fails again, tell whoever runs the service the X-Request-ID: the log "
        "tells more under it.",
    ),
    "database-unavailable": ProblemType(
        503,
        "Database unavailable",
        "The database does not answer now. Nothing was changed.",
        f"Ask again after the seconds that Retry-After tells. {_ASK_THE_OPERATOR}",
    ),
    "not-ready": ProblemType(
        503,
        "Not ready",
        "The process runs, but its database or its workers do not answer, so reports can be "
        "neither made nor read. Members of the document say which.",
        f"Send requests to another instance meanwhile. {_ASK_THE_OPERATOR}",
    ),
    "stopping": ProblemType(
        503,
        "Stopping",
        "The service was told to stop while it worked on the request. Whether it had written "
        "anything is not known.",
        "Ask again after the seconds that Retry-After tells. Loading a feed twice changes nothing; "
        "a report asked for again with the same Idempotency-Key is the same report.",
    ),
}

#: What a status means where nothing more is known of it.
OF_STATUS = {
    400: "bad-request",
    401: "unauthorized",
    404: "not-found",
    408: "request-timeout",
    431: "request-header-fields-too-large",
    501: "not-implemented",
    405: "method-not-allowed",
    413: "request-entity-too-large",
    415: "unsupported-media-type",
    416: "requested-range-not-satisfiable",
    500: "internal-server-error",
}


def place_of(slug: str) -> str:
    """Where the page of a kind is, which is also what tells it from others."""
    return link(f"/problems/{slug}")
