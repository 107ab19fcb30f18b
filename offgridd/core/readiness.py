"""What the whole says of itself: its conditions, and when it counts as ready. Computed, never stored, as a model's."""

from __future__ import annotations

from collections.abc import Sequence

from offgridd.core.adapters import beside
from offgridd.core.condition import Condition
from offgridd.core.conditions import model_conditions
from offgridd.core.desired import Desired, ModelSpec
from offgridd.core.gitsource import UNKNOWN, GitFacts
from offgridd.core.observed import Observed
from offgridd.core.plan import complete_file, current_file, obstacle

WHOLE_TYPES = ("Accepted", "Watched", "StateWritable", "SourceVerified", "Ready")


def whole_conditions(desired: Desired, observed: Observed, waiting: Sequence[str]) -> tuple[Condition, ...]:
    """The five conditions of the whole, in the order of WHOLE_TYPES; `waiting` are the preload models not Ready."""
    facts = observed.manifest
    if facts.problems:
        text = "; ".join(str(p) for p in facts.problems[:3])
        kept = "; the copy of the last good manifest serves" if facts.from_last_good else ""
        accepted = Condition("Accepted", "False", facts.reason, text + kept)
    elif facts.pending:
        text = "its repository is not fetched yet; what was accepted before stays"
        accepted = Condition("Accepted", "Unknown", "Waiting", text)
    else:
        accepted = Condition("Accepted", "True", "Valid")
    if accepted.status != "True":
        yet = " yet" if facts.pending else ""
        ready = Condition("Ready", "False", accepted.reason, f"the manifest is not accepted{yet}")
    elif waiting:
        more = f" and {len(waiting) - 5} more" if len(waiting) > 5 else ""
        ready = Condition("Ready", "False", "ModelsNotReady", "not ready: " + ", ".join(waiting[:5]) + more)
    else:
        held = "held back: " + ", ".join(desired.held) if desired.held else ""
        ready = Condition("Ready", "True", "Suspended" if desired.server.suspend else "AllReady", held)
    return (
        accepted,
        _unless(facts.watch_error, "Watched", "Watching", "WatchUnavailable"),
        _unless(facts.state_error, "StateWritable", "Writable", "StateNotWritable"),
        _source_verified(facts.git),
        ready,
    )


def _source_verified(git: GitFacts | None) -> Condition:
    kind = "SourceVerified"
    if git is None:
        return Condition(kind, "True", "LocalFile")
    serves = (
        f"commit {git.commit[:12]} of {git.url} is in effect" if git.commit else "none of its commits is accepted yet"
    )
    if git.reason:
        unknown = git.reason in UNKNOWN
        return Condition(kind, "Unknown" if unknown else "False", git.reason, f"{git.message}; {serves}")
    return Condition(kind, "True", "Signed" if git.signed else "Fetched", serves)


def is_ready(desired: Desired, observed: Observed) -> bool:
    """What READY=1 and /readyz mean, by the manifest's own policy."""
    if desired.server.ready == "preloaded" and observed.manifest.pending:
        return False  # which models there are is not known
    done = {"listening": lambda *_: True, "settled": settled, "preloaded": all_ready}[desired.server.ready]
    return observed.listening and desired.generation > 0 and done(desired, observed)


def settled(desired: Desired, observed: Observed) -> bool:
    """Whether every preload model is Ready, or is not for a reason that is terminal or in back-off."""
    return all(is_settled(s, observed) for s in desired.models.values() if s.preload)


def is_settled(spec: ModelSpec, observed: Observed) -> bool:
    """Also where it waits for the network: a first download must not hold up the start of a service."""
    facts = observed.of(spec.name)
    file = current_file(spec, facts)
    if facts.network and file is None:
        return True
    waits = file is not None and complete_file(spec, facts) is None
    others = [observed.of(name) for name in (beside(spec.name, spec.load) if waits else ())]
    if any(one.network and one.file is None for one in others):
        return True
    return obstacle(spec, observed) is not None or _is_ready(spec, observed)


def not_ready(desired: Desired, observed: Observed) -> list[str]:
    """The preload models that are not Ready."""
    return [name for name, spec in desired.models.items() if spec.preload and not _is_ready(spec, observed)]


def all_ready(desired: Desired, observed: Observed) -> bool:
    """Whether every preload model is Ready."""
    return not not_ready(desired, observed)


def _is_ready(spec: ModelSpec, observed: Observed) -> bool:
    return model_conditions(spec, observed.of(spec.name), observed)[-1].status == "True"


def _unless(error: str, kind: str, good: str, bad: str) -> Condition:
    return Condition(kind, "False", bad, error) if error else Condition(kind, "True", good)
