"""What `benchmarks/reproduce.py` is made of: runs, their data, statements over seeds, the page."""
