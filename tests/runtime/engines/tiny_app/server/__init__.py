"""The tiny app's server."""
