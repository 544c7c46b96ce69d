"""The student as its int8 file computes it, for training and for study."""
