"""Whether a finished run's folder, ledgers, receipts and report agree."""
