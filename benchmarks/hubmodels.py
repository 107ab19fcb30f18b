"""Models as a hub lists them, made up: owners, families, sizes and files are shared out as on huggingface.co."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

_OWNERS = {"mradermacher": 30, "bartowski": 8, "TheBloke": 5, "QuantFactory": 5, "RichardErkhov": 6, "unsloth": 3,
           "lmstudio-community": 3, "MaziyarPanahi": 3, "tensorblock": 6, "Mungert": 2, "DavidAU": 2}  # fmt: skip
_FAMILIES = {"Llama-3.1": 8, "Llama-3.2": 5, "Llama-3": 6, "Llama-2": 4, "CodeLlama": 2, "TinyLlama": 2, "Qwen2.5": 10,
             "Qwen2.5-Coder": 4, "Qwen3": 7, "Mistral": 9, "Mixtral-8x": 2, "gemma-2": 4, "gemma-3": 5, "phi-4": 2,
             "Phi-3-mini": 3, "DeepSeek-R1-Distill-Qwen": 3, "DeepSeek-Coder": 1, "SmolLM2": 2, "Yi-1.5": 1,
             "StarCoder2": 1, "granite-3.1": 1, "Falcon3": 1, "OLMo-2": 1, "bge-m3": 1, "nomic-embed": 1}  # fmt: skip
_SIZES = {"7B": 20, "8B": 22, "3B": 9, "1B": 6, "0.5B": 3, "1.5B": 5, "13B": 6, "14B": 7, "12B": 7, "4B": 5, "32B": 5,
          "70B": 5, "72B": 2, "135M": 1, "22B": 2}  # fmt: skip
_TUNES = (*("Instruct",) * 4, "Chat", "it", "abliterated", "Hermes", "Dolphin", "Orca", "Roleplay", "RP", "Math",
          "Uncensored", "SFT", "DPO", "GRPO", "Reasoning", "Vision", "Medical", "Legal", "Storywriter", "Merge",
          "Slerp", "Ties", "Nemotron", "WizardLM", "Airoboros", "OpenHermes", "Zephyr", "Lumimaid",
          "Stheno")  # fmt: skip
_SYLLABLES = ("ka", "ro", "mi", "ta", "len", "vor", "sha", "qui", "zan", "el", "dor", "nyx", "fa", "bel", "ur", "os")
_IMATRIX = (
    "IQ1_S",
    "IQ1_M",
    "IQ2_XXS",
    "IQ2_XS",
    "IQ2_S",
    "IQ2_M",
    "Q2_K",
    "IQ3_XXS",
    "IQ3_XS",
    "IQ3_S",
    "IQ3_M",
    "Q3_K_S",
    "Q3_K_M",
    "Q3_K_L",
    "IQ4_XS",
    "Q4_0",
    "Q4_1",
    "Q4_K_S",
    "Q4_K_M",
    "Q5_K_S",
    "Q5_K_M",
    "Q6_K",
)
_PLAIN = ("Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_0", "Q4_K_S", "Q4_K_M", "Q5_0", "Q5_K_S", "Q5_K_M", "Q6_K", "Q8_0")
_FEW = ("Q4_K_M", "Q5_K_M", "Q8_0")
_TAGS = ("transformers", "safetensors", "en", "conversational", "endpoints_compatible", "region:us", "imatrix",
         "text-generation-inference", "base_model:quantized", "arxiv:2306.01708", "license:apache-2.0")  # fmt: skip
_PIPELINES = ("text-generation",) * 12 + ("image-text-to-text", "feature-extraction", None, None)


def models(count: int, seed: int = 5) -> Iterator[dict[str, Any]]:
    """So many, each as `/api/models` shows it with its files' names; the same for the same seed."""
    rng = random.Random(seed)
    small = [_word(rng) + rng.choice(("", "-ai", "labs", "_hf", "99")) for _ in range(3000)]
    seen: set[str] = set()
    while len(seen) < count:
        owner = _pick(rng, _OWNERS) if rng.random() < 0.7 else rng.choice(small)
        name = _name(rng)
        if f"{owner}/{name}" not in seen:
            seen.add(f"{owner}/{name}")
            yield _model(rng, f"{owner}/{name}", len(seen))


def _name(rng: random.Random) -> str:
    parts = [_pick(rng, _FAMILIES), _pick(rng, _SIZES), *rng.sample(_TUNES, rng.choice((0, 1, 1, 1, 2, 2, 3)))]
    if rng.random() < 0.6:
        parts.insert(rng.randrange(len(parts) + 1), _word(rng).capitalize() + _word(rng))
    if rng.random() < 0.4:
        parts.append(rng.choice(("v0.1", "v0.2", "v1", "v2", "v1.5", "8k", "128k", "2411", "Preview")))
    return "-".join(parts) + rng.choice(("-GGUF", "-GGUF", "-GGUF", "-i1-GGUF", "-gguf", ".Q4_K_M-GGUF", ""))


def _word(rng: random.Random) -> str:
    return "".join(rng.choice(_SYLLABLES) for _ in range(rng.choice((1, 2, 2, 3))))


def _pick(rng: random.Random, weights: dict[str, int]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]


def _model(rng: random.Random, model: str, number: int) -> dict[str, Any]:
    year, month = rng.choice((2023, 2024, 2024, 2025, 2025)), rng.randint(1, 12)
    day = f"{year + rng.randint(0, 1)}-{month:02}-{rng.randint(1, 28):02}"
    changed = f"{day}T{rng.randint(0, 23):02}:15:{number % 60:02}.000Z"
    downloads = int(rng.paretovariate(0.7)) * 10 + rng.randint(0, 9)
    return {
        "_id": f"{number:024x}", "id": model, "author": model.partition("/")[0], "sha": f"{rng.getrandbits(160):040x}",
        "createdAt": f"{year}-{month:02}-{rng.randint(1, 28):02}T12:00:00.000Z", "lastModified": changed,
        "downloads": min(downloads, 9_000_000), "likes": downloads // 300, "trendingScore": rng.choice((0, 0, 0, 1, 2)),
        "gated": "manual" if rng.random() < 0.02 else False, "pipeline_tag": rng.choice(_PIPELINES),
        "tags": ["gguf", *rng.sample(_TAGS, 5)], "siblings": [{"rfilename": name} for name in _files(rng, model)],
    }  # fmt: skip


def _files(rng: random.Random, model: str) -> list[str]:
    """The names of the files of a repository: of one, a few, a dozen or two dozen quants; large ones in shards."""
    stem = model.partition("/")[2].removesuffix("-GGUF").removesuffix("-gguf")
    quants = rng.choice((_IMATRIX, _PLAIN, _PLAIN, _FEW, (rng.choice(_PLAIN),)))
    quants = tuple(q for q in quants if len(quants) == 1 or rng.random() < 0.95) or _FEW
    joint = rng.choice((".", "-", "."))
    files = [".gitattributes", "README.md"]
    for quant in quants:
        large = "70B" in stem and quant in ("Q6_K", "Q8_0")
        files += (
            [f"{stem}{joint}{quant}-{n:05}-of-00002.gguf" for n in (1, 2)] if large else [f"{stem}{joint}{quant}.gguf"]
        )
    return [*files, *(["imatrix.dat"] if quants[0].startswith("IQ") else [])]
