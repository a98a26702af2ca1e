"""Worker processes: how batches reach them, how many run at a time, what happens when one dies."""
