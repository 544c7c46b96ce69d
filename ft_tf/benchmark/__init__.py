"""Training speed, compared with PyTorch and with the machine's limit."""
