"""Ours beside llama-server."""
