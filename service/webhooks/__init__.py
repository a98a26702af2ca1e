"""Webhooks: what happens to stores and reports is told to the endpoints that want to know."""
