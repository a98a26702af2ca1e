"""Reports: asked for, queued, run, written, kept, summed up."""
