"""The parts of report.json and summary.json: strict models, which write the JSON Schema."""
