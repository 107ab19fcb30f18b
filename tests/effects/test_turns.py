"""Turns: a few at once, the most urgent next, and none is lost when somebody leaves."""

from __future__ import annotations

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st

from offgridd.effects.turns import Turns


async def test_what_is_urgent_goes_before_what_came_first() -> None:
    turns, order = Turns(1), list[str]()

    async def one(name: str, rank: int) -> None:
        async with turns.turn(rank):
            order.append(name)

    async with anyio.create_task_group() as group, turns.turn(1):
        for name, rank in (("pulled", 1), ("declared", 0), ("pulled too", 1), ("declared too", 0)):
            group.start_soon(one, name, rank)
        await anyio.wait_all_tasks_blocked()
        assert order == []
    assert order == ["declared", "declared too", "pulled", "pulled too"]


@settings(deadline=None, max_examples=60)
@given(most=st.integers(1, 3), who=st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=12))
def test_never_more_than_that_and_whoever_leaves_takes_no_turn_along(most: int, who: list[tuple[int, bool]]) -> None:
    async def run() -> None:
        turns, inside, seen = Turns(most), 0, 0

        async def one(rank: int) -> None:
            nonlocal inside, seen
            async with turns.turn(rank):
                inside += 1
                seen = max(seen, inside)
                try:
                    await anyio.lowlevel.checkpoint()
                finally:
                    inside -= 1

        async with anyio.create_task_group() as group:
            for rank, leaves in who:
                scope = anyio.CancelScope()

                async def guarded(rank: int = rank, scope: anyio.CancelScope = scope) -> None:
                    with scope:
                        await one(rank)

                group.start_soon(guarded)
                await anyio.lowlevel.checkpoint()
                if leaves:
                    scope.cancel()
        assert seen <= most
        with anyio.fail_after(1):  # all turns are free again
            async with anyio.create_task_group() as group:
                for _ in range(most):
                    group.start_soon(one, 0)

    anyio.run(run)
