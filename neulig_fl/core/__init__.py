"""What everything stands on: errors, files, variants, randomness, progress, the cache folder."""
