"""The header index."""
