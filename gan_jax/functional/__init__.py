"""Formulas on arrays."""
