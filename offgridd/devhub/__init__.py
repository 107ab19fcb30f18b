"""A local hub that speaks as Hugging Face's does, for demos, tests and trials without a network."""
