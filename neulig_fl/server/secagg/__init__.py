"""The server's side of secure aggregation: rounds, and the exchange of one."""
