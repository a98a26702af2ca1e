"""Reports that come by themselves: when, by whose plan, and each time exactly once."""
