"""Evaluation of states: samples, scores, tables, descriptions."""
