"""The HTTP API: one module per resource, and what the modules of reports or of health share."""
