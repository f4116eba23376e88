"""What the studies are made of: claims and results, running and storing, training, set-ups, the gallery."""
