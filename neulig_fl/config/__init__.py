"""The scenario as data: its schema, YAML with places, problems in words, policy files."""
