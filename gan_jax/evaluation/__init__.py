"""What can be said of a state: samples, scores, tables, descriptions."""
