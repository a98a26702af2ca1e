"""What the suites share: real processes, a real database, feeds, and the slow reference."""
