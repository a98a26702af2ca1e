"""PostgreSQL: the way to it, its tables, and a private one for who has no other."""
