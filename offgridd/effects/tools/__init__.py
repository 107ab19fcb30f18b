"""What other programs have of models on this machine, for `offgrid adopt`: it looks as the user who calls it.

Nothing is opened here but small lists; what a program's files say is not trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from offgridd.core.adopting import Candidate, without_twins
from offgridd.effects.tools import huggingface, jan, llamacpp, lmstudio, ollama

Finder = Callable[[Mapping[str, str], Path], list[Candidate]]
FINDERS: Mapping[str, Finder] = {
    "huggingface": huggingface.find,
    "llama.cpp": llamacpp.find,
    "ollama": ollama.find,
    "lmstudio": lmstudio.find,
    "jan": jan.find,
}


def find(tools: Sequence[str], env: Mapping[str, str], home: Path) -> list[Candidate]:
    """The models of these programs, each once. What can not be read is passed over."""
    return without_twins(one for tool in tools for one in FINDERS[tool](env, home))
