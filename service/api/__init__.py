"""The HTTP API: one module per tag of the OpenAPI document."""
