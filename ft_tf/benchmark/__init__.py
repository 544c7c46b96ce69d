"""How fast the steps are, beside PyTorch's and the machine's limit."""
