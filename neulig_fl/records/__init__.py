"""What can leave a client: kinds of record, protections, policies, budgets, the release plan."""
