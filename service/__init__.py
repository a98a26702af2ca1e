"""storewatch: how long stores were up and down within their business hours."""
