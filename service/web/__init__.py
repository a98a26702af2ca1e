"""What every answer over HTTP has in common, whichever resource it is about."""
