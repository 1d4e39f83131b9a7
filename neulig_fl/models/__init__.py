"""Image encoders: families, checkpoints, what a model answers, inspection."""
