"""A student in the web browser: one page on this machine. No TensorFlow."""
