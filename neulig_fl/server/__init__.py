"""The server: it collects records and keeps what was released."""
