"""Finished runs beside each other: which are one defence, and how they differ on the same images."""
