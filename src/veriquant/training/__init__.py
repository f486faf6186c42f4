"""Training: margin losses, data that keep a device busy, one loop for all that learns."""
