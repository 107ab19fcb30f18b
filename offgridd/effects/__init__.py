"""Adapters: each is one door to the world, and foreign exceptions die here."""
