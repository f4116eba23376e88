"""Studies that are written and have not yet shown their claims: not listed, not run by `all`, not in the gallery.

One moves up a folder when its full run has been stored and its claims hold.
"""
