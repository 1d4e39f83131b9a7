"""A client's side of secure aggregation: its gate, its state, its answers."""
