"""Accuracy, agreement, intervals, equivalence."""
