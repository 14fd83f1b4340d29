"""Plans are run for real: exactly as planned, every byte through the ledger, and let go of."""

import gc

import attrs
import pytest
import torch

from tests.scheduler.toys import (
    Script,
    bench,
    block,
    gather,
    is_out,
    one,
    random_weights,
    start,
    toy_model,
    toy_program,
)
from wanflow.errors import InputError, Interrupted, OutOfMemory, StageFailed, WanflowError
from wanflow.scheduler.program import Call
from wanflow.trace.events import Kind, Memory, Move, StageSpan, Step, Transfer, Verb

BUDGETS = [None, "minimum"]


def moves(found, kind=None) -> list[Move]:
    """The moves in the trace, of one kind or all."""
    events = [e for e in found.sink.events if isinstance(e, Move)]
    return [e for e in events if kind in (None, e.kind)]


def fails_in(error: Exception, model):
    """Make a program whose last call fails when it is run for real."""

    def run(_values):
        raise error

    return toy_program(model, after=lambda: iter([Call("boom", run, stand_in=lambda _: {})]))


def assert_let_go(found) -> None:
    """Nothing is on the device, no weights are bound, every program is closed."""
    gc.collect()
    assert found.ledger.resident_bytes("cpu") == 0
    found.ledger.check_integrity()
    assert not found.executor._works.values
    for program in found.programs:
        assert program.closed
        assert program.model is None or all(p.is_meta for p in program.model.module.parameters())


@pytest.fixture
def model():
    return toy_model(staging_bytes=8192)


class TestRun:
    """A plan is run to its end."""

    @pytest.mark.parametrize("budget", BUDGETS)
    def test_moves_are_the_plans(self, model, budget) -> None:
        """Each segment comes and goes when the plan says so, with the plan's verb and reason."""
        found = bench(toy_program(model), budget=budget)
        found.run()
        planned = [m for turn in found.plan.turns for m in (*turn.brings, *turn.drops)]
        ran = [m for m in moves(found, Kind.WEIGHTS) if not m.name.endswith(" rows")]

        assert [(m.verb, m.segment, m.nbytes, m.cause) for m in planned] == [
            (m.verb, m.name, m.nbytes, m.cause) for m in ran
        ]

    @pytest.mark.parametrize("budget", BUDGETS)
    def test_values_are_the_plans(self, model, budget) -> None:
        """Each value is made and freed once, in the plan's order."""
        found = bench(toy_program(model), budget=budget)
        found.run()
        names = {m.value: m for step in found.plan.footprint.calls for m in step.makes}
        frees = [names[n].name for turn in found.plan.turns for n in turn.frees]
        ran = [m for m in moves(found) if m.kind in (Kind.VALUE, Kind.STATE)]

        assert [m.name for m in names.values()] == [m.name for m in ran if m.verb is Verb.PLACE]
        assert frees == [m.name for m in ran if m.verb is Verb.FREE]

    @pytest.mark.parametrize("budget", BUDGETS)
    def test_events_add_up(self, model, budget) -> None:
        """What was placed less what was freed is what is there, at every move."""
        found = bench(toy_program(model), budget=budget)
        found.run()
        resident = 0
        for move in moves(found):
            resident += -move.nbytes if move.verb is Verb.FREE else move.nbytes
            assert resident == move.resident_bytes

    @pytest.mark.parametrize("budget", BUDGETS)
    def test_peak_is_as_predicted(self, model, budget) -> None:
        """The ledger's is the plan's; the meter's is never above it."""
        found = bench(toy_program(model), budget=budget)
        outcome = found.run()

        assert outcome.ledger_peak_bytes == found.plan.predicted_peak_bytes
        assert 0 < outcome.peak_bytes <= outcome.ledger_peak_bytes <= found.plan.budget_bytes
        assert outcome.peak_source == "tracked"

    def test_only_outputs_are_left(self, model) -> None:
        """They stay on the ledger, since their owner has them now."""
        found = bench(toy_program(model))
        outcome = found.run()

        assert {"toy.out"} == outcome.values.keys() - {"toy.x"}
        assert found.ledger.resident_bytes("cpu") == outcome.values["toy.out"].nbytes
        assert found.programs[0].closed
        assert all(p.is_meta for p in model.module.parameters())

    def test_bits_do_not_depend_on_the_budget(self, model) -> None:
        """All streamed, some streamed, none: the same as the plain module's."""
        ends = bench(toy_program(model)).plan
        middle = (ends.minimum_bytes + ends.resident_bytes) // 2
        found = [bench(toy_program(model), budget=b) for b in ("minimum", middle, None)]
        outs = [each.run().values["toy.out"] for each in found]

        reads = [sum(m.nbytes for turn in f.plan.turns for m in turn.brings) for f in found]
        assert reads[0] >= reads[1] > reads[2]
        assert torch.equal(outs[0], outs[1])
        assert torch.equal(outs[0], outs[2])
        assert torch.equal(outs[0], plain(passes=3))

    def test_steps_and_stages_are_written_down(self, model) -> None:
        """One span a step and one a stage, with the peak that the plan said."""
        found = bench(toy_program(model))
        found.run()
        steps = [e.index for e in found.sink.events if isinstance(e, Step)]
        (span,) = [e for e in found.sink.events if isinstance(e, StageSpan)]

        assert steps == [0, 1, 2, 3]
        assert span.peak_bytes == found.plan.stages[0].peak_bytes
        assert isinstance(found.sink.events[-1], Memory)

    def test_read_staging_is_there_all_along(self, model) -> None:
        """It is the first thing that comes and the last that goes."""
        found = bench(toy_program(model), budget="minimum")
        found.run()
        events = [e for e in moves(found) if e.name == "read staging"]

        assert [e.verb for e in events] == [Verb.PLACE, Verb.FREE]
        assert events[0] is moves(found)[0]
        assert events[0].nbytes == model.staging_bytes

    @pytest.mark.parametrize("budget", BUDGETS)
    def test_arrivals_are_written_down(self, model, budget) -> None:
        """Each load that was started is said to have arrived, once."""
        found = bench(toy_program(model), budget=budget)
        found.run()
        arrived = [e.name for e in found.sink.events if isinstance(e, Transfer)]
        started = [m.name for m in moves(found, Kind.WEIGHTS) if m.verb is not Verb.FREE]

        assert sorted(arrived) == sorted(started)

    def test_overlap_changes_nothing_but_time(self, model) -> None:
        """The plain twin makes the same moves and the same bits."""
        found = [bench(toy_program(model), budget="minimum", overlap=o) for o in (True, False)]
        outs = [each.run().values["toy.out"] for each in found]

        assert torch.equal(*outs)
        seen = [[(m.verb, m.name, m.resident_bytes) for m in moves(each)] for each in found]
        assert seen[0] == seen[1]

    def test_watch_sees_what_is_made(self, model) -> None:
        """As it is made, by its stage and name."""
        seen = []
        found = bench(toy_program(model, passes=1), watch=lambda s, n, t: seen.append((s, n)))
        found.run()

        assert seen[:3] == [("toy", "toy.ids"), ("toy", "toy.x"), ("toy", "toy.x")]


def plain(passes: int) -> torch.Tensor:
    """Compute what the toy program does with nothing of wanflow's in between."""
    module = toy_model().module
    weights = random_weights(module)
    module.load_state_dict(weights, assign=True)
    with torch.no_grad():
        x = module.table(torch.arange(8) * 3)
        seen = [torch.zeros(())] * len(module.blocks)
        for step in range(passes):
            for index, layer in enumerate(module.blocks):
                out = layer(x)
                x = out + seen[index] if step else out
                seen[index] = out
    return x


class TestStream:
    """A consumer takes its turn after each chunk."""

    def test_one_chunk_is_in_flight(self) -> None:
        """A chunk is consumed before the next is made."""
        seen = []

        def made(index):
            return Call(f"make.{index}", lambda _: {"a.chunk": torch.full((4,), index)}, emits=True)

        def consumed(index):
            def run(values):
                seen.append(values["a.chunk"][0].item())
                return {}

            call = Call("take", run, ("a.chunk",), chunk=index + 1, step=index)
            return attrs.evolve(call, stand_in=lambda _: {})

        producer = Script("a", lambda: map(made, range(3)))
        consumer = Script("b", lambda: map(consumed, range(3)), consumes="a", steps=3)
        found = bench(producer, consumer)
        found.run()

        assert seen == [0, 1, 2]
        assert found.ledger.peak_bytes("cpu") == 4 * 8
        assert_let_go(found)


FAILURES = [
    (RuntimeError("shapes"), StageFailed, r"stage 'toy' \(boom, step 0\) failed: shapes"),
    (ValueError("odd"), StageFailed, "failed: odd"),
    (OSError(28, "No space left", "/out"), StageFailed, r"step 0\): No space left: /out"),
    (OSError("odd disk"), StageFailed, "odd disk"),
    (MemoryError(), OutOfMemory, "RAM is full"),
    (RuntimeError("[enforce] DefaultCPUAllocator: can't"), OutOfMemory, "RAM is full"),
    (InputError("bad image"), InputError, "^bad image$"),
    (KeyboardInterrupt("^C"), KeyboardInterrupt, "C"),
    (KeyError("bug"), KeyError, "bug"),
]


class TestFailure:
    """Whatever goes wrong, everything is let go of."""

    @pytest.mark.parametrize(("error", "kind", "text"), FAILURES, ids=lambda f: type(f).__name__)
    @pytest.mark.parametrize("budget", BUDGETS)
    def test_in_a_call(self, model, budget, error, kind, text) -> None:
        """What a stage raises becomes one message that names the stage and the call."""
        found = bench(fails_in(error, model), budget=budget)

        with pytest.raises(kind, match=text):
            found.run()

        error.__traceback__ = None
        assert_let_go(found)

    @pytest.mark.parametrize("tensor", ["blocks.1.down.weight", "table.weight"])
    @pytest.mark.parametrize("budget", BUDGETS)
    def test_in_reading(self, model, budget, tensor) -> None:
        """A file that can't be read any more; the error is the reader's own."""
        error = WanflowError("cut short")
        found = bench(toy_program(model), budget=budget, broken={tensor: error})

        with pytest.raises(WanflowError, match=r"^cut short$"):
            found.run()

        error.__traceback__ = None
        assert_let_go(found)

    def test_in_a_program(self, model) -> None:
        """Between its calls, where it has no business to fail."""
        armed = []

        def after():
            if armed:
                raise ZeroDivisionError
            return iter(())

        found = bench(toy_program(model, after=after))
        armed.append(1)

        with pytest.raises(ZeroDivisionError):
            found.run()

        assert_let_go(found)

    def test_frees_are_in_the_trace(self, model) -> None:
        """Its last move leaves nothing, and says why."""
        found = bench(fails_in(RuntimeError("shapes"), model))

        with pytest.raises(StageFailed):
            found.run()

        last = moves(found)[-1]
        assert (last.verb, last.cause, last.resident_bytes) == (Verb.FREE, "the run failed", 0)

    @pytest.mark.parametrize("calls", [0, 1, 5])
    def test_stop_ends_between_calls(self, model, calls) -> None:
        """No call is cut in two, and none is begun after."""
        left = iter(range(calls))

        def stop() -> None:
            if next(left, None) is None:
                raise Interrupted("stopped")

        ran = []
        found = bench(toy_program(model), stop=stop, watch=lambda s, n, t: ran.append(n))
        with pytest.raises(Interrupted):
            found.run()

        # The start and the rows make one value each, a block two.
        assert len(ran) == {0: 0, 1: 1, 5: 2 + 3 * 2}[calls]
        assert_let_go(found)


def changed(model, change):
    """Make a program that does what *change* makes of the toy program's list of calls."""
    calls = list(toy_program(model, passes=2).script())
    return Script("toy", lambda: iter(change(calls)), model, steps=2)


def swap(calls):
    """Let the second block come before the first."""
    return [*calls[:2], calls[3], calls[2], *calls[4:]]


def edit(index, **fields):
    """Let a call be another one."""

    def change(calls):
        return [*calls[:index], attrs.evolve(calls[index], **fields), *calls[index + 1 :]]

    return change


def makes(tensors):
    """Let the start make something else."""
    return edit(0, run=lambda _values: tensors)


OTHER = {
    "another kind": (edit(2, kind="else"), "the plan has the call"),
    "another step": (edit(2, step=1), "the plan has the call"),
    "another segment": (edit(2, segment="block.1"), "the plan has the call"),
    "another order": (swap, "the plan has the call"),
    "other reads": (edit(5, reads=("toy.x",)), "the plan has the call"),
    "one call less": (lambda calls: calls[:-1], "the programs made 8 calls, the plan has 9"),
    "one call more": (lambda calls: [*calls, calls[0]], "toy/start comes after the plan's end"),
    "another value": (makes({"toy.z": torch.zeros(8)}), r"made \['toy.z'\], planned \['toy.ids'\]"),
    "no value": (makes({}), r"made \[\], planned"),
    "another size": (makes({"toy.ids": torch.zeros(9)}), "toy.ids has 36 bytes, planned 64"),
}


class TestAgreement:
    """A program that doesn't do what was planned is caught."""

    @pytest.mark.parametrize("case", OTHER)
    @pytest.mark.parametrize("budget", BUDGETS)
    def test_another_call(self, model, budget, case) -> None:
        """At the call where it begins to differ; the fault is our own."""
        change, text = OTHER[case]
        planned = changed(model, list)
        found = bench(planned, budget=budget, run=(changed(model, change),))

        with pytest.raises(AssertionError, match=text):
            found.run()

        assert found.ledger.resident_bytes("cpu") == 0

    def test_budget_smaller_than_planned(self, model) -> None:
        """The ledger refuses what the plan didn't ask for."""
        found = bench(toy_program(model), budget="minimum")
        found.ledger._tiers["cpu"].budget_bytes -= 1
        found.ledger._tiers["cpu"].free_bytes -= 1

        with pytest.raises(OutOfMemory, match="needs"):
            found.run()

        assert_let_go(found)

    def test_gather_without_a_model(self) -> None:
        """There is no file to read the rows from."""
        calls = [start(), attrs.evolve(gather(), stand_in=lambda v: {"toy.x": v["toy.ids"] + 1})]
        found = bench(Script("toy", lambda: iter(calls)))

        with pytest.raises(AssertionError, match="gathers from no model"):
            found.run()


def test_value_that_fails_to_come_leaves_nothing(model) -> None:
    """A watcher may fail too."""

    def watch(_stage, _name, _tensor) -> None:
        raise StageFailed("the screen is gone")

    found = bench(toy_program(model), watch=watch)
    with pytest.raises(StageFailed, match="screen"):
        found.run()

    assert_let_go(found)


def test_single_call_with_nothing_to_keep() -> None:
    """The smallest run there is."""
    found = bench(one(Call("a", lambda _: {})))

    assert found.run().values == {}
    assert found.plan.predicted_peak_bytes == 0


def test_state_is_told_from_value(model) -> None:
    """The trace knows what lives across steps."""
    found = bench(toy_program(model))
    found.run()

    assert {"toy.state.0", "toy.state.1", "toy.state.2"} == {
        m.name for m in moves(found, Kind.STATE)
    }
    assert is_out("toy.out")
    assert block(model, 0, 0).segment == "block.0"
