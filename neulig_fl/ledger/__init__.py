"""What was released, signed: the ledger, receipts, keys, a run's statements, privacy cost."""
