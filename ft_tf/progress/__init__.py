"""What a command tells about its parts while it works. No TensorFlow."""
