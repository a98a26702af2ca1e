"""How all stores are now: looked at every so often, and whenever polls have come."""
