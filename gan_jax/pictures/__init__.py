"""Pictures: grids of images and charts."""
