"""Factor Transfer (Kim, Park and Kwak, NeurIPS 2018) for Keras."""

import os

# TensorFlow uses oneDNN's kernels by itself only on processors with VNNI,
# bfloat16 or AMX; on AVX2 alone they train 2 to 3 times faster, too. It reads
# this once, when it is imported, so every entry to this project imports ft_tf
# before TensorFlow. A value that the user has set stays.
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')
