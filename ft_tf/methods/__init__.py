"""Distillation methods: a frozen teacher signal, an adapter, a loss."""
