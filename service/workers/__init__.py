"""Worker processes: how batches get to them, how many at a time, what replaces one that dies."""
