"""Image classification data: TFDS sets in memory, and views of their images."""
