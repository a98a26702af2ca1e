"""Outages of all stores: found by the workers, named by ids that stay, with what people note."""
