"""A run in one file: all that it takes to make it again, and whether its results still follow from that."""
