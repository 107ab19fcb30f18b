"""What was hashed, against a dictionary: any numbers that a file system may give, restarts in between."""

from __future__ import annotations

from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from offgridd.core.observed import Identity
from offgridd.effects.state import State

numbers = st.integers(0, 2**64 - 1)
identities = st.builds(Identity, numbers, numbers, st.integers(0, 2**63 - 1), st.integers(-(2**63), 2**64))


class InventoryMachine(RuleBasedStateMachine):
    """It is a dictionary that is still there after a restart."""

    folder: Path

    def __init__(self) -> None:
        super().__init__()
        self.state, self.model = State(self.folder), dict[Identity, str]()
        self.state.inventory.clear()

    @rule(key=identities, value=st.text("0123456789abcdef", max_size=64))
    def put(self, key: Identity, value: str) -> None:
        self.state.inventory[key] = self.model[key] = value

    @rule(data=st.data(), other=identities)
    def remove(self, data: st.DataObject, other: Identity) -> None:
        key = data.draw(st.sampled_from([*self.model, other]))
        assert self.state.inventory.pop(key, None) == self.model.pop(key, None)

    @rule(key=identities)
    def look(self, key: Identity) -> None:
        assert self.state.inventory.get(key) == self.model.get(key)

    @rule()
    def restart(self) -> None:
        self.state.close()
        self.state = State(self.folder)

    @invariant()
    def is_the_same(self) -> None:
        assert dict(self.state.inventory) == self.model
        assert len(self.state.inventory) == len(self.model)

    def teardown(self) -> None:
        self.state.close()


def test_the_inventory_is_a_dictionary_that_stays(tmp_path: Path) -> None:
    machine = type("Machine", (InventoryMachine,), {"folder": tmp_path / "state"})
    run_state_machine_as_test(machine, settings=settings(max_examples=25, stateful_step_count=15, deadline=None))
