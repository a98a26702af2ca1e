"""Files of the reports of schedules, put where loaders look for them."""
