"""A trained generator, or a game of points, as a page in a browser: served on loopback, or as a static folder."""
