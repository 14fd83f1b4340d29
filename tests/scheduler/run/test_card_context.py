"""The context of a card: what it takes is counted, and the allocator gives way to it."""

from __future__ import annotations

import attrs
import pytest
import torch

from wanflow.scheduler.run import card_context
from wanflow.scheduler.run.card_context import CardContext, OwnContext
from wanflow.scheduler.run.step_events import Figure

MIB = 2**20
TOTAL = 8000 * MIB


@attrs.define
class Card:
    """What a driver and an allocator say of a card, in MiB."""

    others: int = 1000
    context: int = 200
    reserved: int = 0
    tells: bool = False  # whether NVML tells by process
    asked: int = 0
    cap: float | None = None

    def mem_get_info(self, _device) -> tuple[int, int]:
        used = self.others + self.context + self.reserved
        return TOTAL - used * MIB, TOTAL

    def memory_reserved(self, _device) -> int:
        return self.reserved * MIB

    def process_bytes(self, _device) -> int | None:
        self.asked += 1
        return (self.context + self.reserved) * MIB if self.tells else None

    def fraction(self, share: float, _device) -> None:
        self.cap = share * TOTAL / MIB


@pytest.fixture
def card(monkeypatch) -> Card:
    """Have a card answer that can be set."""
    found = Card()
    monkeypatch.setattr(torch.cuda, "mem_get_info", found.mem_get_info)
    monkeypatch.setattr(torch.cuda, "memory_reserved", found.memory_reserved)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", found.fraction)
    monkeypatch.setattr(card_context, "process_bytes", found.process_bytes)
    return found


def opened(own=None, set_aside=300, budget=1000) -> CardContext:
    """Begin a run; 7000 MiB were free before the context was made."""
    device = torch.device("cuda:0")
    context = CardContext(
        device, set_aside * MIB, own or OwnContext(7000 * MIB, 200 * MIB), budget * MIB
    )
    context.open()
    return context


def beside(name: str, now: int, most: int) -> Figure:
    """Write a figure in MiB."""
    return Figure(name, now * MIB, most * MIB)


class TestFigure:
    """What the process has beside the allocator's memory."""

    def test_what_others_hold_is_not_ours(self, card) -> None:
        """Nor is what the allocator holds."""
        context = opened()
        card.reserved, card.context = 600, 250

        assert context.figure() == beside("context+others", 250, 250)

    def test_others_that_grow_can_not_be_told_apart(self, card) -> None:
        """The name says so; the peak stays."""
        context = opened()
        card.others += 400
        context.figure()
        card.others -= 400

        assert context.figure() == beside("context+others", 200, 600)

    def test_nvml_tells_them_apart(self, card) -> None:
        """It is asked when the device has more than ever."""
        card.tells = True
        context = opened()
        card.others, card.context = 2000, 280

        assert context.figure() == beside("context", 280, 280)
        asked = card.asked
        card.reserved = 500
        assert context.figure() == beside("context", 280, 280)
        assert card.asked == asked

    def test_nobody_knows_what_it_took_at_first(self, card) -> None:
        """What was set aside stands for it until it is more."""
        context = opened(OwnContext())
        assert context.figure() == beside("context+others", 300, 300)
        card.context += 350
        assert context.figure() == beside("context+others", 350, 350)


class TestCap:
    """The allocator gives way, so that the budget holds."""

    @pytest.mark.parametrize("tells", [False, True])
    def test_growth_within_its_share(self, card, tells) -> None:
        """It is what the share is for."""
        card.tells = tells
        context = opened()
        context.stage_begins()
        card.context = 300

        assert (context.stage_began(), card.cap) == ("", None)

    @pytest.mark.parametrize("tells", [False, True])
    def test_growth_past_its_share(self, card, tells) -> None:
        """Told once, and again when there is more."""
        card.tells = tells
        context = opened()
        context.stage_begins()
        card.context = 350
        assert context.stage_began() == "CUDA's context takes 350 MiB, 50.0 MiB over its share"
        assert card.cap == pytest.approx(650)
        assert context.stage_began() == ""

        context.stage_begins()
        card.context = 400
        assert context.stage_began() == "CUDA's context takes 400 MiB, 100 MiB over its share"
        assert card.cap == pytest.approx(600)

    def test_another_program_between_two_stages(self, card) -> None:
        """It takes nothing of our budget."""
        context = opened()
        card.others += 4000
        context.stage_begins()
        card.context = 280

        assert (context.stage_began(), card.cap) == ("", None)

    def test_next_try(self, card) -> None:
        """A context stays for good, whatever the cap was set to meanwhile."""
        context = opened()
        context.stage_begins()
        card.context = 350
        context.stage_began()
        card.cap = 700
        context.open()

        assert card.cap == pytest.approx(650)
        assert context.figure() == beside("context+others", 350, 350)

    def test_more_than_its_share_at_first(self, card) -> None:
        """The allocator gives way at once, and the first stage says so."""
        card.context = 360
        context = opened()
        context.stage_begins()

        assert card.cap == pytest.approx(640)
        assert context.stage_began().endswith("60.0 MiB over its share")

    def test_another_run_of_the_process(self, card) -> None:
        """Its context is as the one before has left it, whoever came to the card meanwhile."""
        first = opened()
        first.stage_begins()
        card.context = 250
        first.stage_began()
        card.others += 4000

        assert opened(first.own).figure() == beside("context+others", 250, 250)

    def test_a_budget_that_the_context_fills(self, card) -> None:
        """Nothing is left, and nothing negative."""
        context = opened(budget=350)
        context.stage_begins()
        card.context = 400
        context.stage_began()

        assert card.cap == 0
