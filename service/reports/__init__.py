"""Reports: how they are asked for, queued, run, written, kept and summed up."""
