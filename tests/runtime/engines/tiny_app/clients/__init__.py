"""The tiny app's clients."""
