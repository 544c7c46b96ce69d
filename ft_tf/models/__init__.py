"""Keras image classifiers: raw images in, logits out, features by name."""
