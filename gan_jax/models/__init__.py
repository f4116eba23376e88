"""A trained generator as something to use: its programs without its Python, samples, walks, projection, files."""
