"""Drafts: a good one makes answers faster, a bad one costs little, and none changes what is said."""

from __future__ import annotations

import random
from collections.abc import Sequence as Items
from dataclasses import dataclass

import hypothesis.strategies as st
import pytest
from engine.test_speculate import PACKED, PLAIN, seconds
from hypothesis import given, settings

from offgridd.engine.draft import Draft, difference
from offgridd.engine.drafting import SAVED, Drafter
from offgridd.engine.fake import Fake, FakeVocab
from offgridd.engine.port import Part
from offgridd.engine.record import GRANT, SHARE
from offgridd.engine.sampling import Row
from offgridd.engine.sequence import Sequence
from offgridd.engine.speculate import Speculator

TABLES = {
    "packed": PACKED,
    "plain": PLAIN,
    "wide": ((1, 20.0), (9, 22.0), (17, 24.0)),
}  # the last: many rows cost little


@dataclass
class Time:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class Small(Fake):
    """Takes a share of the other's time for its decodes, and is right so often."""

    def __init__(self, time: Time, table: str, share: float, right: float, slots: int = 1, **more: int) -> None:
        super().__init__(4096, slots, **more)
        self._time, self._cost, self._share, self._right = time, seconds(TABLES[table]), share, right
        self._dice = random.Random(5)

    def decode(self, parts: Items[Part]) -> None:
        super().decode(parts)
        self._time.now += self._share * self._cost(sum(len(part.tokens) for part in parts))

    def logits(self, part: int, back: int = 0) -> Row:
        row = super().logits(part, back)
        if self._dice.random() >= self._right:
            row[int(row.argmax()) + 1] = 99
        return row


def read(prompt: list[int]) -> Fake:
    """The model that answers, with a prompt in its cache."""
    model = Fake(4096)
    for at in range(0, len(prompt), 512):
        model.decode([Part(0, at, prompt[at : at + 512], True)])
    return model


class Talk:
    """A model that answers one sequence after the other, and a draft beside it."""

    def __init__(self, table: str, share: float, right: float, *, lookup: bool = False) -> None:
        self.time, self.cost = Time(), seconds(TABLES[table])
        self.draft = Small(self.time, table, share, right)
        self.guesser = Speculator(Drafter(Draft(self.draft, 257, self.time)), lookup=lookup)
        self.guessed = 0

    def answer(self, number: int, prompt: list[int], count: int) -> tuple[float, list[int]]:
        """Seconds from its first token on, and the answer."""
        model = read(prompt)
        first = int(model.logits(0).argmax())
        s, began = Sequence(number, "a", [*prompt, first], len(prompt), count), self.time.now
        while (made := len(s.tokens) - s.prompt) < count:
            guess = self.guesser.guesses([s], 99).get(number, [])
            assert len(guess) < count - made + 1
            rows, at = [s.tokens[-1], *guess], len(s.tokens) - 1
            model.decode([Part(0, at, rows, True, True)])
            self.time.now += self.cost(len(rows))
            self.guesser.took(len(rows), self.cost(len(rows)))
            held = 0
            while held < len(guess) and int(model.logits(0, len(guess) - held).argmax()) == guess[held]:
                held += 1
            s.tokens += [*guess[:held], int(model.logits(0, len(guess) - held).argmax())]
            model.cut(0, len(s.tokens) - 1)
            self.guesser.checked(s, len(guess), held)
            self.guessed += len(guess)
        self.guesser.forget(number)
        return self.time.now - began, s.tokens[s.prompt : s.prompt + count]


def plain(prompt: list[int], count: int) -> list[int]:
    model, made = read(prompt), list[int]()
    while len(made) < count:
        made.append(int(model.logits(0).argmax()))
        model.decode([Part(0, len(prompt) + len(made) - 1, made[-1:], True)])
    return made


@pytest.mark.parametrize(("table", "least"), [("packed", 1.1), ("wide", 3.0)])
def test_a_perfect_draft_is_fast(table: str, least: float) -> None:
    talk = Talk(table, 0.1, 1.0)
    took, said = talk.answer(1, [*b"a short prompt"], 300)
    assert said == plain([*b"a short prompt"], 300)
    assert talk.cost(1) * 299 / took >= least


@pytest.mark.parametrize("right", [0.0, 0.3, 0.5])
@pytest.mark.parametrize("table", [*TABLES])
def test_a_bad_draft_costs_less_than_three_percent(table: str, right: float) -> None:
    talk = Talk(table, 0.2, right)
    took, said = talk.answer(1, [*b"a short prompt"], 300)
    assert said == plain([*b"a short prompt"], 300)
    assert took <= talk.cost(1) * 299 / 0.97


@settings(max_examples=60)
@given(
    st.sampled_from([*TABLES]),
    st.floats(0.02, 1.0),
    st.floats(0.0, 1.0),
    st.lists(st.tuples(st.integers(1, 400), st.integers(1, 120)), min_size=1, max_size=8),
    st.booleans(),
)
def test_what_all_answers_lose_is_bounded(
    table: str, share: float, right: float, asked: list[tuple[int, int]], lookup: bool
) -> None:
    talk, dice = Talk(table, share, right, lookup=lookup), random.Random(7)
    lost = 0.0
    for number, (length, count) in enumerate(asked):
        prompt = [dice.randrange(97, 122) for _ in range(length)]
        took, said = talk.answer(number, prompt, count)
        assert said == plain(prompt, count)
        over = took / talk.cost(1) - (count - 1)
        assert over <= 2.5 * GRANT + SHARE * count + SAVED
        lost += over
    assert lost <= sum(2.5 * GRANT + SHARE * count for _, count in asked)


def test_a_long_prompt_is_read_once_it_was_worth_it() -> None:
    talk = Talk("wide", 0.2, 0.95)
    long = [*(b"0123456789" * 90)]  # takes 900 * 0.28 / 20 = 13 plain steps to read
    talk.answer(1, long, 60)
    assert talk.guessed == 0, "nothing was won yet that could pay for it"
    talk.answer(2, [*b"short"], 200)
    before = talk.guessed
    assert before > 0
    took, said = talk.answer(3, long, 200)
    assert talk.guessed - before > 100
    assert said == plain(long, 200)
    assert took < talk.cost(1) * 199


def test_what_was_read_begins_the_next_turn() -> None:
    time = Time()
    model = Small(time, "wide", 0.1, 1.0)
    draft = Draft(model, 257, time)
    first = Sequence(1, "a", [*b"hello there"], 5, 50)
    draft.follow([first])
    draft.guess([first], 3)
    draft.forget(1)
    second = Sequence(2, "a", [*b"hello there, and more"], 5, 50)
    draft.follow([second])
    assert draft.missing(second) == len(b", and more")


def test_sequences_come_and_go_and_none_gets_what_is_another_ones() -> None:
    time, dice = Time(), random.Random(3)
    draft = Draft(Small(time, "wide", 0.1, 1.0, slots=3), 257, time)
    going: dict[int, Sequence] = {}
    for number in range(120):
        going[number] = Sequence(number, "a", [dice.randrange(97, 100) for _ in range(dice.randrange(1, 9))], 1, 999)
        while len(going) > 3 and dice.random() < 0.8:
            gone = dice.choice([*going])
            del going[gone]
            draft.forget(gone)
        some = dice.sample([*going.values()], min(3, len(going)))  # others wait, and may lose their slots
        draft.follow(some)
        assert all(draft.missing(s) for s in some)
        made, _ = draft.guess(some, 4)
        for s in some:
            right = plain(s.tokens, 4)
            assert made[s.id] == right
            s.tokens += [*right[: dice.randrange(5)], dice.randrange(97, 122)]


def test_without_cells_it_makes_room_and_goes_on() -> None:
    time = Time()
    draft = Draft(Small(time, "wide", 0.1, 1.0, slots=3, cells=40), 257, time)
    many = [Sequence(i, "a", [i + 97] * 15, 1, 99) for i in range(3)]
    draft.follow(many)
    assert draft.guess(many, 2)[0] == {0: [], 1: [], 2: []}
    assert draft.guess(many[:2], 2)[0] == {s.id: plain(s.tokens, 2) for s in many[:2]}
    assert draft.missing(many[2]) == 15
    assert draft.guess(many[2:], 2)[0] == {2: []}, "no room: those that are idle went"
    assert draft.guess(many[2:], 2)[0] == {2: plain(many[2].tokens, 2)}


def test_reading_one_may_take_the_cells_of_another_that_was_ready() -> None:
    time = Time()
    drafter = Drafter(Draft(Small(time, "wide", 0.01, 1.0, slots=2, cells=1700), 257, time))
    guesser = Speculator(drafter, lookup=False)
    for rows in (1, 9, 17) * 4:
        guesser.took(rows, 1.0)
    many = [Sequence(i, "a", [i + 97] * 1000, 1000, 999) for i in range(2)]
    guessed = set[int]()
    for step in range(40):
        drafter._saved = SAVED  # answers before these were worth it
        some = many[: 1 + step // 5]
        made = guesser.guesses(some, 99)
        guessed |= made.keys()
        for s in some:
            s.tokens.append(plain(s.tokens, 1)[0])
    assert 0 in guessed


def test_nothing_is_drafted_for_what_the_daemon_asks_by_itself() -> None:
    time = Time()
    guesser = Speculator(Drafter(Draft(Small(time, "wide", 0.01, 1.0), 257, time)), lookup=False)
    guesser.took(1, 0.02)
    assert guesser.guesses([Sequence(1, "a", [97] * 9, 8, 99)], 99)
    assert not guesser.guesses([Sequence(2, "a", [97] * 9, 8, 99, kept=False)], 99)


def test_a_token_that_the_draft_does_not_know_ends_it() -> None:
    time = Time()
    draft = Draft(Small(time, "wide", 0.1, 1.0), 200, time)
    s = Sequence(1, "a", [97, 98, 230], 1, 99)
    draft.follow([s])
    assert draft.missing(s) is None


class Shifted(FakeVocab):
    def piece(self, token: int, *, special: bool = False) -> bytes:
        return super().piece(token ^ 1 if token == 65 else token, special=special)


class Longer(FakeVocab):
    size = 300

    def piece(self, token: int, *, special: bool = False) -> bytes:
        return super().piece(token, special=special) if token < FakeVocab.size else b"[PAD]"


class Named(FakeVocab):
    def names(self) -> dict[str, str]:
        return {"bos_token": "<s>", "eos_token": "<|end|>"}


class Huge(Longer):
    size = 999


def test_vocabularies_are_told_apart() -> None:
    mine = FakeVocab()
    assert difference(mine, FakeVocab()) == ""
    assert difference(Longer(), mine) == difference(mine, Longer()) == "", "padded to a round size"
    assert difference(mine, Shifted()) == "its token 65 is b'A', and the model's is b'@'"
    assert "has 999" in difference(mine, Huge())
    assert "control tokens" in difference(mine, Named())
