"""Every kind of problem that the service reports; a problem of any other kind cannot be made."""

import msgspec

from service.web.links import link


class ProblemType(msgspec.Struct, frozen=True):
    """A kind of problem.

    Attributes:
        status: the HTTP status of its responses
        title: what it is, in a few words
        meaning: what happened
        what_to_do: advice to the person or the program that asked
    """

    status: int
    title: str
    meaning: str
    what_to_do: str


_ASK_THE_OPERATOR = "If it does not pass, give the X-Request-ID to whoever runs the service."

#: Every kind, by its slug: the last segment of its page's path.
TYPES = {
    "bad-request": ProblemType(
        400,
        "Bad request",
        "The request could not be read: its body is not what its Content-Type says, it was cut "
        "short, or a part of it is malformed.",
        "Check how the request is made: the encoding of the body (UTF-8), its JSON, its "
        "compression. The same request would get the same answer again.",
    ),
    "unauthorized": ProblemType(
        401,
        "Key needed",
        "The service requires an API key, and the request has none.",
        "Send a key as `Authorization: Bearer …` or as `X-API-Key: …`. Whoever runs the service "
        "can make one with `storewatch keys create`, or by POST /keys.",
    ),
    "key-not-valid": ProblemType(
        401,
        "Key not valid",
        "The key in the request was revoked or never existed, or Authorization and X-API-Key have "
        "two different keys.",
        "Check that the whole key is sent, in one of the two headers. If it is, ask for a new key.",
    ),
    "key-needed": ProblemType(
        403,
        "Only this machine is served",
        "No API key has been made yet. Until then the service answers only programs on its own "
        "machine: no request from another address, through a proxy, or from a web page of another "
        "site.",
        "Make a key with `storewatch keys create`, and send it.",
    ),
    "scope-too-small": ProblemType(
        403,
        "Scope too small",
        "The key is valid but may only read, and this request changes something.",
        "Use a key of scope write.",
    ),
    "not-found": ProblemType(
        404,
        "Not found",
        "There is nothing at this path.",
        "Compare the path with those listed on the API page at /schema. In a path, the whole id of "
        "a store must be percent-encoded.",
    ),
    "store-not-found": ProblemType(
        404,
        "Store not found",
        "No feed has named a store with this id.",
        "Check the id character by character. A store exists as soon as a feed names it.",
    ),
    "week-not-found": ProblemType(
        404,
        "Week not found",
        "The store has no week of business hours that is in force from this date on.",
        "GET /stores/{store_id} lists the weeks of the store, each with its date.",
    ),
    "special-date-not-found": ProblemType(
        404,
        "Special date not found",
        "The store has no special hours on this date: those of its week count.",
        "GET /stores/{store_id}/special-hours lists the dates that have some.",
    ),
    "exclusion-not-found": ProblemType(
        404,
        "Exclusion not found",
        "There is no exclusion with this id: it was deleted or never existed.",
        "GET /exclusions lists them. If it is gone, its time counts again.",
    ),
    "outage-not-found": ProblemType(
        404,
        "Outage not found",
        "No outage of a store holds the instant that the id stands for: polls or hours that came "
        "later say that the store was not down then, the store was deleted, or it is no id.",
        "GET /outages and GET /stores/{store_id}/outages list outages with their ids. An outage "
        "depends on max_gap: give the one that it was listed with.",
    ),
    "too-many-outage-lists": ProblemType(
        503,
        "Too many lists of outages",
        "As many lists or statistics of outages of many stores are being made as this instance "
        "makes at once.",
        "Ask again after the seconds that Retry-After tells.",
    ),
    "report-not-found": ProblemType(
        404,
        "Report not found",
        "There is no report with this id: it was deleted or never existed.",
        "Look it up in the list of reports, or ask for a new one.",
    ),
    "schedule-not-found": ProblemType(
        404,
        "Schedule not found",
        "There is no schedule with this id: it was deleted or never existed.",
        "GET /schedules lists them. Reports that it asked for are still there.",
    ),
    "schedule-exists": ProblemType(
        409,
        "Schedule exists",
        "Another schedule has this name. It may have been made by the same request, whose answer "
        "was lost.",
        "Look it up by GET /schedules; change it, or take another name.",
    ),
    "too-many-schedules": ProblemType(
        409,
        "Too many schedules",
        "There are as many schedules as may be.",
        "Delete those that nobody needs: GET /schedules tells when each last ran.",
    ),
    "schedule-refused": ProblemType(
        409,
        "Schedule refused",
        "What the schedule reports cannot be asked for any more: a store is gone, or a window lies "
        "too far back, for example. `detail` says what is wrong.",
        "Change its `report` by PATCH. Its plan goes on, and tells the same as `last_error`.",
    ),
    "webhook-not-found": ProblemType(
        404,
        "Endpoint not found",
        "There is no endpoint of webhooks with this id: it was deleted or never existed.",
        "GET /webhooks lists them.",
    ),
    "delivery-not-found": ProblemType(
        404,
        "Delivery not found",
        "There is no delivery with this id at this endpoint: it is of another one, or was over for "
        "so long that it was forgotten.",
        "GET /webhooks/{id}/deliveries lists those that are known.",
    ),
    "webhook-exists": ProblemType(
        409,
        "Endpoint exists",
        "Another endpoint has the same URL, events, tags and thresholds: every event would come "
        "twice. It may have been made by the same request, whose answer was lost.",
        "Take that one; if its secret was lost, POST /webhooks/{id}/rotate-secret makes a new one.",
    ),
    "too-many-webhooks": ProblemType(
        409,
        "Too many endpoints",
        "There are as many endpoints of webhooks as may be.",
        "Delete those that nobody needs: GET /webhooks tells which are paused or failing.",
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
    "report-groups-not-found": ProblemType(
        404,
        "Groups not found",
        "The report was not asked for by groups.",
        "Ask for a new report with `group_by`, the keys of up to three tags.",
    ),
    "method-not-allowed": ProblemType(
        405,
        "Method not allowed",
        "The path exists, but does not support this method.",
        "The header Allow lists the methods that the path supports.",
    ),
    "parquet-not-installed": ProblemType(
        406,
        "No Parquet",
        "Only Parquet is accepted, and the service runs without the package that writes it.",
        "Whoever runs the service can install it: pip install 'storewatch[parquet]'. NDJSON "
        "(application/x-ndjson) has the same values.",
    ),
    "key-not-found": ProblemType(
        404,
        "Key not found",
        "There never was an API key with this id.",
        "GET /keys lists the keys with their ids.",
    ),
    "not-acceptable": ProblemType(
        406,
        "Not acceptable",
        "The header Accept asks for a form that this service cannot give: a spreadsheet, where the "
        "package that makes them is not installed.",
        "Accept application/json or text/csv. Whoever runs the service can install the extra that "
        "`detail` names.",
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
        "The request does not say at which instant its window or report ends. It would end at the "
        "newest poll, but there are no polls yet.",
        "Load polls first, or give the end in the request.",
    ),
    "report-not-completed": ProblemType(
        409,
        "Report not completed",
        "The report is queued or running, so its file is not there yet.",
        "Ask again after the seconds given in Retry-After, or follow the report's events.",
    ),
    "report-failed": ProblemType(
        409,
        "Report failed",
        "The report failed, so it has no file. `detail` tells why.",
        "Fix what `detail` names, and ask for a new report.",
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
        "The request or its body did not arrive within the time that the service waits for it.",
        "Send it again, over a better connection or in smaller parts.",
    ),
    "request-header-fields-too-large": ProblemType(
        431,
        "Head too large",
        "The request line and the headers are larger than 64 KiB.",
        "Send fewer or shorter headers. Long content belongs in the body.",
    ),
    "not-implemented": ProblemType(
        501,
        "Not implemented",
        "The request uses a part of HTTP that the service does not support, such as a transfer "
        "coding other than chunked.",
        "Send it with Content-Length, or chunked.",
    ),
    "no-room": ProblemType(
        503,
        "No room for the body",
        "So many request bodies are arriving at once that there is no memory for another.",
        "Send it again after the seconds given in Retry-After.",
    ),
    "too-many-connections": ProblemType(
        503,
        "Too many connections",
        "All connections that the service allows are busy.",
        "Try again after the seconds given in Retry-After, and use one connection for many "
        "requests.",
    ),
    "too-many-streams": ProblemType(
        503,
        "Too many streams",
        "This instance has as many event streams open as it allows.",
        "Ask for the report itself instead, every few seconds; instead of changes of states, for "
        "the states of all stores, every minute.",
    ),
    "too-many-downloads": ProblemType(
        503,
        "Too many downloads",
        "As many files of reports' stores, or of a store's polls, are being downloaded as this "
        "instance sends at once.",
        "Ask again after the seconds that Retry-After tells.",
    ),
    "storage-full": ProblemType(
        507,
        "Disk full",
        "A disk of the service or of its database is full. Nothing from the request was stored.",
        "Tell whoever runs the service; its log names the disk. Then send the request again.",
    ),
    "storage-unavailable": ProblemType(
        503,
        "Storage unavailable",
        "A folder or an object store that the service needs does not work.",
        "Tell whoever runs the service; its log names it. Then send the request again.",
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
        "A report that is queued or running cannot be deleted.",
        "Cancel it first, with a POST to its path followed by `/cancel`, or wait until it ends.",
    ),
    "zone-unknown": ProblemType(
        409,
        "Time zone unknown",
        "A store is in a time zone that the tz database of this instance does not have: a newer "
        "instance accepted it.",
        "Give the store another zone, or have the service's package tzdata updated.",
    ),
    "report-expired": ProblemType(
        410,
        "Report expired",
        "The report's file is no longer kept.",
        "Ask for a new report. With the same `as_of` and unchanged data, its file has the same "
        "bytes. How long files are kept is a setting of the service.",
    ),
    "precondition-failed": ProblemType(
        412,
        "Precondition failed",
        "The condition in If-Match or If-None-Match does not hold: somebody else has changed what "
        "was to be written, or it exists already. Nothing was written.",
        "Read it again, decide again, and send the change with the new ETag.",
    ),
    "request-entity-too-large": ProblemType(
        413,
        "Body too large",
        "The body is larger than this operation accepts. If it is compressed, its decompressed "
        "size counts.",
        "Send it in parts. Feeds as CSV, and polls as NDJSON, may be far larger than feeds as "
        "JSON.",
    ),
    "unsupported-media-type": ProblemType(
        415,
        "Unsupported media type",
        "This operation does not accept the type or the encoding of the body.",
        "Say in Content-Type what the body is. Accept-Post lists the types that are accepted, and "
        "Accept-Encoding the encodings.",
    ),
    "requested-range-not-satisfiable": ProblemType(
        416,
        "Range lies outside",
        "The requested range lies outside the file.",
        "Content-Range gives the size of the file.",
    ),
    "invalid-request": ProblemType(
        422,
        "Invalid request",
        "The request can be read, but a value in it is not allowed. Nothing was changed.",
        "`errors` names each of these values by the part of the request that it is in, and says "
        "what is wrong with it.",
    ),
    "feed-refused": ProblemType(
        422,
        "Feed refused",
        "Some rows of the feed are wrong, so nothing of the feed was stored.",
        "`errors` lists them by line and column, only the first of them if there are many; `count` "
        "says how many there are. Fix them, and send the whole feed again.",
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
        "Use a new key for each new report, and the same one only to repeat a request.",
    ),
    "unknown-stores": ProblemType(
        422,
        "Unknown stores",
        "The report was asked for stores that no feed has named.",
        "`errors` lists them, only the first of them if there are many. Leave them out, or load "
        "their feeds first.",
    ),
    "queue-full": ProblemType(
        429,
        "Queue full",
        "As many reports are waiting as the queue may hold.",
        "Ask again after the seconds given in Retry-After.",
    ),
    "internal-server-error": ProblemType(
        500,
        "Internal server error",
        "The service failed in a way that nobody expected. The request is not at fault.",
        "Try again. If it fails again, give the X-Request-ID to whoever runs the service: the log "
        "says more under that id.",
    ),
    "database-unavailable": ProblemType(
        503,
        "Database unavailable",
        "The database is not answering. Nothing was changed.",
        f"Ask again after the seconds given in Retry-After. {_ASK_THE_OPERATOR}",
    ),
    "not-ready": ProblemType(
        503,
        "Not ready",
        "The process runs, but its database, its workers or the storage of its reports does not "
        "answer, so reports can be neither made nor read. Members of the document say which.",
        f"Send requests to another instance in the meantime. {_ASK_THE_OPERATOR}",
    ),
    "stopping": ProblemType(
        503,
        "Stopping",
        "The service was told to stop while it was working on the request. It is not known whether "
        "anything was written.",
        "Ask again after the seconds given in Retry-After. Loading a feed twice changes nothing, "
        "and asking again with the same Idempotency-Key gives the same report.",
    ),
}

#: The kind of problem that a status stands for where nothing more is known.
OF_STATUS = {
    400: "bad-request",
    401: "unauthorized",
    404: "not-found",
    406: "not-acceptable",
    408: "request-timeout",
    431: "request-header-fields-too-large",
    501: "not-implemented",
    405: "method-not-allowed",
    413: "request-entity-too-large",
    415: "unsupported-media-type",
    416: "requested-range-not-satisfiable",
    500: "internal-server-error",
}


def path_of(slug: str) -> str:
    """The path of a kind's page, which also identifies the kind."""
    return link(f"/problems/{slug}")
