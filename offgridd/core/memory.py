"""What workers are charged with, and what is left of the budget. Pure; bytes throughout.

The RAM and each GPU are counted apart. A file that is mapped counts once, however many workers map it.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass, field, replace
from functools import lru_cache

from offgridd.core.desired import DEFAULT_CONTEXT, LoadSpec, ModelSpec, Placement
from offgridd.core.fit import Limits, estimate
from offgridd.core.observed import Charge, ModelHeader, VerifiedFile
from offgridd.core.purpose import pooling_of
from offgridd.core.sizes import RESERVE


@dataclass(frozen=True, slots=True)
class Host:
    """What the processor can do, what models may take, and whether they go to a GPU where nothing is said."""

    features: frozenset[str]
    limits: Limits
    gpu: bool = False


class _Rest:
    """What a cached function needs besides its keys, and which those tell wholly."""

    def __init__(self, spec: ModelSpec, file: VerifiedFile) -> None:
        self.spec, self.file = spec, file

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Rest)

    def __hash__(self) -> int:
        return 0


def charge(load_key: str, spec: ModelSpec, file: VerifiedFile, host: Host) -> Charge:
    """What a worker of `spec`, which has this load key, may take, as far as its header tells.

    Where the architecture's memory is not understood: its tensors, what it may keep, and what is reckoned for any.
    A pass of the loop asks for each model that finds no room, so that answers are remembered.
    """
    return _charge(load_key, spec.cache_ram, host, _Rest(spec, file))


@lru_cache(maxsize=32768)
def _charge(_load_key: str, cache: int, host: Host, rest: _Rest) -> Charge:
    spec, file, limits = rest.spec, rest.file, host.limits
    found = estimate(file.header, spec.load, host.features, cache)
    if found is None:
        kept = 0 if pooling_of(file.header, spec.load) else cache
        own, shared, moved = kept + RESERVE, file.header.tensor_bytes, 0
    else:
        shared = found.weights - found.unread
        moved = found.kv + found.compute + found.repacked
        own = found.charge - shared
    if file.draft is not None:  # its file may be mapped by a worker of its own, too: that is not reckoned with
        added = draft_bytes(spec.load, file.header, file.draft.header, host.features)
        own, moved = own + added, moved + added
    if not spec.load.placement.mmap or spec.load.placement.mlock:
        own, shared = own + shared, 0
    own += sum(one.part.identity.size for one in file.adapters)  # read, not mapped
    whole = Charge(own, shared, file.content if shared else "")
    share = _share_on_gpu(spec.load.placement, file.header.block_count, host)
    return _split(whole, share, moved, _devices(spec.load.placement, limits)) if share else whole


def draft_bytes(load: LoadSpec, header: ModelHeader, draft: ModelHeader, features: Set[str]) -> int:
    """What a draft takes in the worker of a model: it has as many cells, and keeps nothing else."""
    context = load.context or min(header.context_length or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
    as_loaded = replace(load, context=context, deterministic=False)
    found = estimate(draft, as_loaded, features, cache=0)
    if found is None:
        return draft.tensor_bytes
    return found.weights - found.unread + found.repacked + found.kv + found.compute


def raised(found: Charge, peak: int) -> Charge:
    """The charge, with what was measured of the worker's own memory where that is more."""
    return found if peak <= found.own else replace(found, own=peak)


def _share_on_gpu(placed: Placement, blocks: int, host: Host) -> float:
    """Which part of the layers is on GPUs: as declared, else all where there is one or the manifest names its size."""
    if placed.gpu_layers is None:
        return 1.0 if host.gpu or host.limits.gpu else 0.0
    return min(1.0, placed.gpu_layers / max(1, blocks))


def _devices(placed: Placement, limits: Limits) -> dict[int, float]:
    """Shares of the GPUs: as declared, else by the sizes that the manifest names."""
    if placed.tensor_split and sum(placed.tensor_split) > 0:
        whole = sum(placed.tensor_split)
        return {number: part / whole for number, part in enumerate(placed.tensor_split) if part}
    if placed.main_gpu is not None or not limits.gpu:
        return {placed.main_gpu or 0: 1.0}
    whole = sum(size for _, size in limits.gpu)
    return {number: size / whole for number, size in limits.gpu}


def _split(whole: Charge, share: float, moved: int, devices: dict[int, float]) -> Charge:
    """The layers' weights, keys and values on the GPUs; what is kept, spilled and moved stays in the RAM."""
    there = int((whole.shared + moved) * share)
    gpu = tuple((number, int(there * part)) for number, part in sorted(devices.items()))
    own = whole.own - int(moved * share)
    return Charge(own, whole.shared - int(whole.shared * share), whole.file, gpu)


@dataclass
class Ledger:
    """What is taken by some workers. Adding and asking cost the same however many they are."""

    limits: Limits
    own: int = 0
    gpu: dict[int, int] = field(default_factory=dict)
    files: dict[str, list[int]] = field(default_factory=dict)  # what each worker that maps a file has of it in the RAM
    mapped: int = 0  # the most of each file, together

    @classmethod
    def of(cls, limits: Limits, charges: Iterable[Charge]) -> Ledger:
        made = cls(limits)
        for one in charges:
            made.add(one)
        return made

    @property
    def ram(self) -> int:
        """Bytes that are taken of the RAM."""
        return self.own + self.mapped

    def add(self, one: Charge) -> None:
        self.own += one.own
        for number, size in one.gpu:
            self.gpu[number] = self.gpu.get(number, 0) + size
        if one.shared:
            self.mapped += self.needs(one) - one.own
            self.files.setdefault(one.file, []).append(one.shared)

    def remove(self, one: Charge) -> None:
        self.own -= one.own
        for number, size in one.gpu:
            self.gpu[number] -= size
        if one.shared:
            sizes = self.files[one.file]
            sizes.remove(one.shared)
            self.mapped -= max(0, one.shared - max(sizes, default=0))
            if not sizes:
                del self.files[one.file]

    def needs(self, one: Charge) -> int:
        """Bytes of RAM that it would take more."""
        there = max(self.files.get(one.file, (0,)))
        return one.own + max(0, one.shared - there)

    def fits(self, one: Charge) -> bool:
        """Whether it has room beside what is there."""
        return not self.lacks(one)

    def lacks(self, one: Charge) -> str:
        """Which memory it has no room in: `ram`, `gpu 0`; "" where it fits."""
        if self.limits.ram is not None and self.ram + self.needs(one) > self.limits.ram:
            return "ram"
        for number, limit in self.limits.gpu:
            wanted = dict(one.gpu).get(number, 0)
            if wanted and self.gpu.get(number, 0) + wanted > limit:
                return f"gpu {number}"
        return ""

    @property
    def over(self) -> bool:
        """Whether more is taken than there is to take."""
        if self.limits.ram is not None and self.ram > self.limits.ram:
            return True
        return any(self.gpu.get(number, 0) > limit for number, limit in self.limits.gpu)
