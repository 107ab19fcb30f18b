"""Pure decisions: no I/O, clock, async, randomness or third-party imports (an import contract checks it)."""
