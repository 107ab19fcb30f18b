"""What kind of memory each architecture keeps, as `create_memory` and the models of llama.cpp have it. Pure.

It was read in the llama.cpp of llama-cpp-python 0.3.36. What is not named here is not known.
"""

from __future__ import annotations

from offgridd.core.observed import ModelHeader

# Every layer has keys and values of its own, in a plain cache.
ATTENTION = frozenset(
    {
        "arcee", "arctic", "apertus", "baichuan", "bailingmoe", "bailingmoe2", "bitnet", "bloom", "chatglm",
        "codeshell",
        "cohere2", "command-r", "dbrx", "deci", "deepseek", "dots1", "ernie4_5", "ernie4_5-moe", "exaone", "exaone4",
        "falcon", "gemma", "gemma2", "gemma3", "glm4", "glm4moe", "gpt-oss", "gpt2", "gptneox", "granite", "granitemoe",
        "grok", "grovemoe", "hunyuan-dense", "hunyuan-moe", "internlm2", "jais", "llama", "llama4", "minicpm",
        "minimax-m2", "mistral3", "mpt", "nemotron", "olmo", "olmo2", "olmoe", "openelm", "orion", "phi2", "phi3",
        "phimoe", "plamo", "qwen", "qwen2", "qwen2moe", "qwen2vl", "qwen3", "qwen3moe", "qwen3vl", "qwen3vlmoe",
        "refact",
        "seed_oss", "smallthinker", "smollm3", "stablelm", "starcoder", "starcoder2", "xverse",
    }
)  # fmt: skip
# Nothing is kept between decodes: they make vectors of whole texts.
ENCODERS = frozenset(
    {
        "bert", "eurobert", "gemma-embedding", "jina-bert-v2", "jina-bert-v3", "modern-bert", "neo-bert", "nomic-bert",
        "nomic-bert-moe",
    }
)  # fmt: skip
LATENT = frozenset({"deepseek2"})  # keys and values are one, where the header has lengths for that
RECURRENT = frozenset({"mamba", "mamba2"})
HYBRID = frozenset({"granitehybrid", "jamba", "lfm2", "lfm2moe"})  # a layer without heads is recurrent
# Keys that say that a layer's memory is another than the formulas have.
FOREIGN = (
    "attention.key_length_swa", "attention.value_length_swa", "attention.shared_kv_layers",
    "attention.indexer.head_count", "attention.indexer.key_length",
)  # fmt: skip
_WINDOWS = {"gemma2": 4096, "llama4": 8192}  # of architectures that need not say theirs
_UNWINDOWED = frozenset({"phi3"})  # the library takes no notice of theirs


def window(header: ModelHeader) -> int:
    """Tokens that a layer with a sliding window looks back on; 0 where there is none."""
    if header.architecture in _UNWINDOWED:
        return 0
    found = header.shape.one("attention.sliding_window")
    return _WINDOWS.get(header.architecture, 0) if found is None else found
