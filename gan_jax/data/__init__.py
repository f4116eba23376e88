"""Where batches come from: toys that draw, arrays on the device, images."""
