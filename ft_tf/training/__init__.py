"""The three stages, each a compiled step, and the loop that drives them."""
