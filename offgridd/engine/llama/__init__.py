"""The only door to llama.cpp: load a file, tokenise, decode, sample. Low-level API; no policy.

Whoever calls must check lengths first: the library asserts, or writes past its buffers, where it should refuse.
"""

from offgridd.engine.llama.embedder import Embedder, open_encoder
from offgridd.engine.llama.model import Llama, Settings, open_model
from offgridd.engine.llama.sampler import NativeChain
from offgridd.engine.llama.vocab import Vocab

__all__ = ["Embedder", "Llama", "NativeChain", "Settings", "Vocab", "open_encoder", "open_model"]
