"""Tool calls and reasoning: how a model's template writes them, what of an answer they are, and how they are forced."""
