"""A run on the server: the loop, its steps, the rows of the report, what each step needs."""
