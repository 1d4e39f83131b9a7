"""A client: it holds an expert, and its gate decides what leaves."""
