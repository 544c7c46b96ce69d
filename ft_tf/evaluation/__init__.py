"""How good a model or an exported file is: its inference, and its figures."""
