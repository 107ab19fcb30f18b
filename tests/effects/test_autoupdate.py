"""`updates: auto`: an adapter that can not be had says nothing against a newer file of the model."""

from __future__ import annotations

from typing import Any

from support.specs import HEADER, HOST

from offgridd.core import events as ev
from offgridd.core.adapters import adapters_of
from offgridd.core.desired import AdapterSpec, Desired, FileSource, HubSource, LoadSpec, ModelSpec
from offgridd.core.errors import Failure
from offgridd.core.fold import fold
from offgridd.core.hub import HubFile, Pin
from offgridd.core.keys import source_key
from offgridd.core.observed import Identity, Observed, VerifiedFile
from offgridd.core.updates import Look, look_key
from offgridd.core.wearing import with_adapters
from offgridd.effects.autoupdate import AutoUpdates
from offgridd.effects.updates import Now

SPEC = ModelSpec(
    "m", HubSource("o/m", "m.gguf"), updates="auto", load=LoadSpec(adapters=(AdapterSpec("a", FileSource("/a")),))
)
(ADAPTER,) = adapters_of([SPEC]).values()
DESIRED = Desired(1, "d", models={"m": SPEC})
GONE = Failure("Resolved", "FileNotFound", "cannot find a: there is no such file")


def pin(letter: str) -> Pin:
    return Pin(source_key(SPEC), "o/m", letter * 40, (HubFile("m.gguf", 3, letter * 64),), None, "asked for")


def file(letter: str, spec: ModelSpec = SPEC) -> VerifiedFile:
    return VerifiedFile("/m", Identity(1, 2, 3, ord(letter)), letter * 64, HEADER, source_key(spec))


class Fetching:
    """The adapter is lost while what is newer comes."""

    def __init__(self) -> None:
        self.rejected: list[bool] = []
        self.observed = Observed(host=HOST)

    def put(self, *happened: ev.Event) -> None:
        self.observed = with_adapters(DESIRED, fold(self.observed, happened, 1.0))

    async def fetch(self, _spec: ModelSpec, _newer: Pin) -> VerifiedFile:
        self.put(ev.FileSeen("m+a", None), ev.VerifyFailed("m+a", source_key(ADAPTER), GONE))
        return file("2")

    async def settle(self, _spec: ModelSpec, _newer: Pin) -> None:
        raise AssertionError("it does not serve")

    async def reject(self, _spec: ModelSpec, _look: Look, _why: str, *, passing: bool) -> None:
        self.rejected.append(passing)


async def test_nothing_is_tried_while_an_adapter_is_missing_and_nothing_refused_for_good_because_of_it() -> None:
    hub = Fetching()

    async def at_once() -> None:
        pass

    auto = AutoUpdates(Now(lambda: DESIRED, lambda: hub.observed, hub.put, at_once, at_once), hub)
    newer: Any = ev.UpdateSeen("m", Look(look_key(pin("1")), 1.0, "2" * 40, pin("2")))
    hub.put(ev.Resolved("m", pin("1")), ev.Verified("m", file("1")), newer)
    assert not auto._due()
    hub.put(ev.Verified("m+a", file("a", ADAPTER)))
    ((name, (old, look)),) = auto._due().items()
    assert name == "m"
    await auto._try(SPEC, old, look)
    assert hub.rejected == [True], "it is tried again"
