"""PostgreSQL: the way to it, its tables, and a private one for whoever has no other."""
