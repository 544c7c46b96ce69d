"""Factor Transfer (Kim, Park and Kwak, NeurIPS 2018) for Keras."""
