"""Image classification data: TFDS sets, and views of their images."""
