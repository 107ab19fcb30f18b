"""What a worker is told first: the action that starts it, as a frame."""

from __future__ import annotations

from dataclasses import asdict, astuple

from offgridd.core.actions import StartWorker
from offgridd.core.observed import VerifiedFile
from offgridd.core.purpose import pooling_of
from offgridd.engine import wire


def load_of(action: StartWorker, shelf: str = "") -> wire.Load:
    """`shelf`: the folder where it may keep finished prefixes."""
    spec = action.load
    draft = action.file.draft
    return wire.Load(
        files=_files(action.file),
        context=spec.context,
        parallel=spec.parallel,
        cells=spec.kv_cells,
        threads=spec.threads,
        chat_template=spec.chat_template,
        file_template=action.file.header.has_chat_template,
        deterministic=spec.deterministic,
        cache=action.cache_ram,
        placement=wire.Placement(**asdict(spec.placement)),
        sandbox=spec.sandbox,
        beside=action.beside,
        key=action.key,
        speculative=spec.lookup,
        shelf=shelf,
        disk=action.cache_disk if shelf else 0,
        pooling=pooling_of(action.file.header, spec),
        adapters=tuple(
            wire.AdapterFile(one.spec.name, one.part.path, astuple(one.part.identity), one.spec.scale)
            for one in action.file.adapters
        ),
        draft=_files(draft) if draft is not None else (),
    )


def _files(file: VerifiedFile) -> tuple[tuple[str, tuple[int, int, int, int]], ...]:
    return tuple((part.path, astuple(part.identity)) for part in file.parts)
