"""What the frozen teacher says: compiled once, and kept if asked to."""
