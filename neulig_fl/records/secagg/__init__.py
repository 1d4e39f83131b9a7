"""What both sides of secure aggregation share: requests, keys, histories, the guard, the plan."""
