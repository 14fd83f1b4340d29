"""Machines by name, how long they take, their files, and what they learn."""

import json
import math
import random
import sys
from types import SimpleNamespace

import attrs
import pytest

from wanflow.errors import InputError
from wanflow.scheduler.machine import store
from wanflow.scheduler.machine.cards import CARDS as DATASHEETS
from wanflow.scheduler.machine.cards import Chip
from wanflow.scheduler.machine.datasheets import (
    NAMES,
    cpu_machine,
    guessed_machine,
    named_machine,
    published_error,
)
from wanflow.scheduler.machine.figures import FIGURES, FILES, SMALL
from wanflow.scheduler.machine.machine_json import as_data, parse
from wanflow.units import GIB

CARDS = NAMES[1:]


class TestNamed:
    """Machines with datasheet figures."""

    @pytest.mark.parametrize("name", CARDS)
    def test_known(self, name) -> None:
        """Each is a GPU whose figures are estimates, faster at half precision."""
        machine = named_machine(name)

        assert (name, "cuda", True) == (machine.name, machine.device, machine.estimated)
        assert machine.figure("gemm.bfloat16") > machine.figure("gemm.float32") > 0
        assert 0 < machine.context_bytes < machine.capacity_bytes
        assert {"estimate"} == {machine.source(n) for n in machine.matters}

    def test_all_that_were_asked_for(self) -> None:
        """The cards people have, and those that others published runs of."""
        assert (
            "cpu rtx3060 rtx3090 rtx4060 rtx4070s rtx4090 rtx4090d rtx5090 l20 l40s rtxpro6000 "
            "a100-40g a100-80g a800 h100 h800 h200 h20".split()
        ) == list(NAMES)

    def test_a_geforce_has_half_the_advertised_rate(self) -> None:
        """Twice its plain rate: its tensor cores accumulate in fp32 at half speed."""
        card = DATASHEETS["rtx3060"]

        assert card.half == pytest.approx(2 * card.single, rel=0.01)

    def test_case_does_not_matter(self) -> None:
        """People write RTX4090."""
        assert named_machine("RTX4090") == named_machine("rtx4090")

    def test_cpu(self) -> None:
        """The name of a processor with an ordinary amount of RAM."""
        assert named_machine("cpu") == cpu_machine(16 * GIB)

    def test_misspelt(self) -> None:
        """The hint has the name that was meant, and all the others."""
        with pytest.raises(InputError, match="rtx490") as caught:
            named_machine("rtx490")

        assert caught.value.code == "unknown-machine"
        assert caught.value.hint.startswith("did you mean 'rtx4090'?")
        assert all(name in caught.value.hint for name in NAMES)

    def test_nothing_like_it(self) -> None:
        """No guess is made where there is none to make."""
        with pytest.raises(InputError) as caught:
            named_machine("zx spectrum")

        assert "did you mean" not in caught.value.hint


class TestGuessed:
    """Cards that nobody measured."""

    @pytest.mark.parametrize(
        ("name", "capability", "gib", "like"),
        [
            ("NVIDIA GeForce RTX 3060", (8, 6), 11.8, "rtx3060"),
            ("NVIDIA GeForce RTX 4090 D", (8, 9), 23.5, "rtx4090d"),
            ("NVIDIA A100-SXM4-80GB", (8, 0), 79.3, "a100-80g"),
            ("NVIDIA H100 80GB HBM3", (9, 0), 79.2, "h100"),
            ("NVIDIA H200", (9, 0), 139.8, "h200"),
            ("NVIDIA H20", (9, 0), 95.6, "h20"),
            ("NVIDIA RTX PRO 6000 Blackwell Server Edition", (12, 0), 95.0, "rtxpro6000"),
        ],
    )
    def test_one_sold_as_a_named_one_has_its_rates(self, name, capability, gib, like) -> None:
        """The name, capacity and RAM are its own, and it is said whose the rates are."""
        capacity, chip = int(gib * GIB), Chip(10, 1e9, 1e9)
        machine = guessed_machine(name, capability, capacity, 2 * GIB, chip)

        assert (like, True) == (machine.guessed_from, machine.estimated)
        assert (name, capacity, 2 * GIB) == (
            machine.name, machine.capacity_bytes, machine.ram_bytes,
        )  # fmt: skip
        assert named_machine(like).figures == machine.figures

    @pytest.mark.parametrize(
        ("name", "capability", "chip", "teraflops", "gigabytes"),
        [  # what others measured of products in float16, and the datasheet's memory
            ("NVIDIA GeForce RTX 2080", (7, 5), Chip(46, 1.71e9, 448e9), 39, 448),
            ("Tesla T4", (7, 5), Chip(40, 1.59e9, 320e9), 42, 320),
            ("Tesla P40", (6, 1), Chip(30, 1.53e9, 347e9), 10, 347),
            ("Tesla V100-SXM2-32GB", (7, 0), Chip(80, 1.53e9, 900e9), 89, 900),
            ("NVIDIA GeForce RTX 4060 Ti", (8, 9), Chip(34, 2.535e9, 288e9), 43, 288),
            ("NVIDIA GeForce RTX 4060 Laptop GPU", (8, 9), Chip(24, 2.37e9, 256e9), 31, 256),
            ("NVIDIA RTX A6000", (8, 6), Chip(84, 1.8e9, 768e9), 120, 768),
            ("NVIDIA B200", (10, 0), Chip(148, 1.965e9, 8000e9), 1660, 8000),
        ],
    )
    def test_any_other_has_those_of_its_chip(
        self, name, capability, chip, teraflops, gigabytes
    ) -> None:
        """A fifth off at most, but for the share that memory reaches."""
        machine = guessed_machine(name, capability, 8 * GIB, GIB, chip)

        assert machine.figure("gemm.float16") / 1e12 == pytest.approx(teraflops, rel=0.21)
        assert 0.3 < machine.memory_rate / 1e9 / gigabytes < 0.7
        assert published_error(machine) is None

    @pytest.mark.parametrize("capability", [(6, 1), (7, 5)])
    def test_before_ampere_bfloat16_is_no_faster_than_single(self, capability) -> None:
        """There is no hardware for it."""
        machine = guessed_machine("Tesla X", capability, 8 * GIB, GIB, Chip(40, 1.5e9, 3e11))

        assert machine.figure("gemm.bfloat16") < machine.figure("gemm.float32")
        assert machine.figure("gemm.bfloat16") < machine.figure("gemm.float16")

    def test_twice_the_chip_is_twice_as_fast(self) -> None:
        """Half of the seconds of products, and of memory."""
        one, two = (
            guessed_machine("NVIDIA GeForce RTX 5070", (12, 0), 12 * GIB, GIB, chip)
            for chip in (Chip(48, 2.5e9, 672e9), Chip(96, 2.5e9, 1344e9))
        )
        for figure in ("gemm.bfloat16", "attention.float16", "conv.float32", "memory_rate"):
            assert two.figure(figure) == pytest.approx(2 * one.figure(figure))

    def test_without_a_chip_the_closest_lends_its_rates(self) -> None:
        """A build of PyTorch that doesn't tell clocks: by kind, capability and memory."""
        machine = guessed_machine("NVIDIA GeForce RTX 4070", (8, 9), 12 * GIB, GIB)

        assert machine.figures == named_machine("rtx4070s").figures

    def test_a_chip_is_what_the_driver_says_of_it(self) -> None:
        """In kHz and bits, an RTX 4090; a build without clocks tells nothing."""
        about = SimpleNamespace(
            multi_processor_count=128, clock_rate=2520000, memory_clock_rate=10501000,
            memory_bus_width=384,
        )  # fmt: skip

        assert Chip.of(about) == Chip(128, 2.52e9, pytest.approx(1008e9, rel=1e-3))
        assert Chip.of(SimpleNamespace(multi_processor_count=128)) is None

    @pytest.mark.parametrize(
        ("card", "chip"),
        [
            ("rtx3060", Chip(28, 1.777e9, 360e9)), ("rtx3090", Chip(82, 1.695e9, 936e9)),
            ("rtx4060", Chip(24, 2.46e9, 272e9)), ("rtx4070s", Chip(56, 2.475e9, 504e9)),
            ("rtx4090", Chip(128, 2.52e9, 1008e9)), ("rtx5090", Chip(170, 2.407e9, 1792e9)),
            ("l40s", Chip(142, 2.52e9, 864e9)), ("a100-80g", Chip(108, 1.41e9, 2039e9)),
            ("h100", Chip(132, 1.83e9, 3350e9)),
        ],
    )  # fmt: skip
    def test_a_named_card_is_what_its_chip_says(self, card, chip) -> None:
        """Our datasheets against multiprocessors and clocks."""
        named, sold = named_machine(card), DATASHEETS[card]
        name = f"NVIDIA GeForce {card} like" if card.startswith("rtx") else f"NVIDIA {card} like"
        machine = guessed_machine(name, sold.capability, sold.gib * GIB, GIB, chip)

        for figure in ("gemm.bfloat16", "attention.float16", "conv.float32", "memory_rate"):
            assert machine.figure(figure) == pytest.approx(named.figure(figure), rel=0.02)


class TestPublished:
    """How far published runs were from a named card's rates."""

    def test_of_a_named_card_and_of_the_same_card_here(self) -> None:
        """In percent."""
        here = guessed_machine("NVIDIA GeForce RTX 4090", (8, 9), 23 * GIB, 64 * GIB)

        assert published_error(named_machine("rtx4090")) == published_error(here) == 10

    def test_where_nobody_published_any_there_is_none(self) -> None:
        """Nor for a processor."""
        assert published_error(named_machine("rtx3060")) is None
        assert published_error(named_machine("cpu")) is None

    def test_what_was_measured_or_learned_has_none(self) -> None:
        """Its figures are its own."""
        here = guessed_machine("NVIDIA GeForce RTX 4090", (8, 9), 23 * GIB, 64 * GIB)

        assert published_error(here.with_figures({"memory_rate": 1e11}, "measured")) is None


class TestSeconds:
    """Times from rates."""

    def test_compute(self, cpu) -> None:
        """Each class of kernel has its rate; the rest is memory traffic."""
        flops = {"gemm": 1e10, "attention": 2e10, "conv": 3e10}

        assert cpu.compute_seconds(flops, 10**9, "float32") == pytest.approx(1 + 2 + 3 + 1)

    def test_dtype(self, cpu) -> None:
        """A rate is of a class and a dtype."""
        assert cpu.compute_seconds({"gemm": 1e10}, 0, "bfloat16") == pytest.approx(0.5)

    def test_unknown_dtype_is_single(self, cpu) -> None:
        """A dtype without a rate is taken for the slow one."""
        assert cpu.compute_seconds({"gemm": 1e10}, 0, "int8") == pytest.approx(1)

    @pytest.mark.parametrize(
        ("flops", "seconds"), [(1e7, 1e-3), (1e8, 1e-2), (1e9, 1e-1 / 10**0.5), (1e10, 1e-1)]
    )
    def test_a_small_call_has_a_rate_of_its_own(self, cpu, flops, seconds) -> None:
        """Between the two it lies between them, by the logarithm; a card has none."""
        machine = attrs.evolve(
            cpu, small={"small.gemm.float32": 1e10}, flops={**cpu.flops, "gemm.float32": 1e11}
        )
        card = attrs.evolve(machine, device="cuda")

        assert machine.compute_seconds({"gemm": flops}, 0, "float32") == pytest.approx(seconds)
        assert sum(machine.parts({"gemm": flops}, 0, "float32").values()) == pytest.approx(seconds)
        assert card.compute_seconds({"gemm": flops}, 0, "float32") == pytest.approx(flops / 1e11)

    def test_starting_adds_up_on_a_cpu(self, cpu) -> None:
        """A call, and each of its kernels."""
        machine = attrs.evolve(cpu, kernel_seconds=0.1, call_seconds=1.0)

        assert machine.compute_seconds({"gemm": 1e10}, 0, "float32", 5) == pytest.approx(2.5)

    @pytest.mark.parametrize(("kernels", "seconds"), [(5, 2.0), (50, 6.0)])
    def test_starting_hides_on_cuda(self, cpu, kernels, seconds) -> None:
        """Only the slower of the host and the card counts."""
        machine = attrs.evolve(cpu, device="cuda", kernel_seconds=0.1, call_seconds=1.0)
        found = machine.compute_seconds({"gemm": 2e10}, 0, "float32", kernels)

        assert found == pytest.approx(seconds)

    def test_load_on_a_cpu(self, cpu) -> None:
        """Read once; from the page cache when it is in RAM. There is no way up."""
        cold, warm = (cpu.load(10**9, from_host=host, file_bytes=10**9) for host in (False, True))

        assert (cold.disk_seconds, cold.copy_seconds) == (1.0, 0.0)
        assert (warm.disk_seconds, warm.copy_seconds) == (0.25, 0.0)

    def test_load_on_cuda(self, cpu) -> None:
        """From the disk, then up; from RAM only up."""
        machine = attrs.evolve(cpu, device="cuda", upload_rate=1e10)
        disk, host = (machine.load(10**9, from_host=h, file_bytes=10**9) for h in (False, True))

        assert (disk.disk_seconds, disk.copy_seconds) == (1.0, 0.1)
        assert (host.disk_seconds, host.copy_seconds) == (0.0, 0.1)


class TestSources:
    """How each figure is known."""

    def test_one_guess_is_enough(self, cpu) -> None:
        """A machine is estimated until all that matters was measured or learned."""
        every = cpu.with_figures({n: cpu.figure(n) for n in cpu.matters}, "measured")

        assert not every.estimated
        assert not every.with_figures({"conv.float32": 1e9}, "learned").estimated
        assert every.with_figures({"conv.float32": 1e9}, "estimate").estimated

    def test_the_link_does_not_matter_on_a_cpu(self, cpu) -> None:
        """It does on a card."""
        assert "upload_rate" not in cpu.matters
        assert "upload_rate" in attrs.evolve(cpu, device="cuda").matters

    def test_learning_keeps_what_was_probed(self, cpu) -> None:
        """Learned twice, a figure still knows what it was first; measured again, it does not."""
        once = cpu.with_figures({"memory_rate": 2e9}, "learned")
        twice = once.with_figures({"memory_rate": 3e9}, "learned")

        assert (twice.was, twice.source("memory_rate")) == ({"memory_rate": 1e9}, "learned")
        assert twice.with_figures({"memory_rate": 3e9}, "measured").was == {}


class TestFile:
    """A machine as JSON, read strictly."""

    @pytest.fixture
    def data(self, cpu):
        machine = attrs.evolve(cpu, spreads={"memory_rate": 0.1}, about="by hand")
        return as_data(machine.with_figures({"gemm.float32": 5e9}, "learned"))

    @pytest.mark.parametrize("name", NAMES)
    def test_round_trip(self, name) -> None:
        """What is written is read back."""
        machine = named_machine(name)
        machine = machine.with_figures({n: machine.figure(n) for n in FIGURES}, "measured")

        assert machine == parse(json.dumps(as_data(machine)), "f")

    def test_figures_of_later_versions_may_be_missing(self, data, cpu) -> None:
        """Files that were written before them go on being read."""
        for name in (*SMALL, *FILES):
            data["figures"].pop(name, None)
        found = parse(json.dumps(data), "f")

        assert found.figure("small.conv.float32") == found.figure("conv.float32")
        assert (found.save_seconds, found.source("save_seconds")) == (cpu.save_seconds, "estimate")

    def test_round_trip_of_what_was_learned(self, data) -> None:
        """Spread and the figure before are kept."""
        found = parse(json.dumps(data), "f")

        assert as_data(found) == data
        assert (found.spreads, found.was) == ({"memory_rate": 0.1}, {"gemm.float32": 1e10})

    @pytest.mark.parametrize(
        ("path", "value", "said"),
        [
            ("device", "tpu", "device is 'tpu', not cpu or cuda"),
            ("name", 3, "name is not a short text"),
            ("about", "x" * 501, "about is not a short text"),
            ("capacity_bytes", 1.5, "capacity_bytes is 1.5, not a whole number"),
            ("capacity_bytes", 0, "capacity_bytes is 0, not from 1"),
            ("ram_bytes", True, "ram_bytes is True, not a whole number"),
            ("granularity_bytes", 10**400, "granularity_bytes is 1000"),
            ("wanflow_machine", 2, "wanflow_machine is 2, this wanflow reads 1"),
            ("extra", 1, "extra is not a field"),
            ("figures", [], "figures is not an object"),
            ("figures.speed", {}, "figures.speed is not a field"),
            ("figures.disk_rate", 7, "figures.disk_rate is not an object"),
            ("figures.disk_rate.value", "9", "figures.disk_rate.value is '9', not a number"),
            ("figures.disk_rate.value", -1.0, "figures.disk_rate.value is -1.0, not from 1"),
            ("figures.disk_rate.value", 1e300, "figures.disk_rate.value is 1e+300, not from 1"),
            ("figures.disk_rate.value", None, "figures.disk_rate.value is None"),
            ("figures.disk_rate.source", "hearsay", "figures.disk_rate.source is 'hearsay'"),
            ("figures.disk_rate.spread", -0.1, "figures.disk_rate.spread is -0.1"),
            ("figures.disk_rate.why", "", "figures.disk_rate.why is not a field"),
            ("figures.kernel_seconds.value", -1e-6, "figures.kernel_seconds.value is -1e-06"),
            ("figures.context_bytes.value", -1, "figures.context_bytes.value is -1"),
        ],
    )
    def test_what_is_wrong_is_named(self, data, path, value, said) -> None:
        """File, field and value."""
        *above, last = path.split(".", 2) if path.startswith("figures.") else [path]
        place = data
        for name in above:
            place = place[name]
        place[last] = value

        with pytest.raises(InputError) as caught:
            parse(json.dumps(data), "/a/toy.json")

        assert caught.value.message.startswith(f"/a/toy.json: {said}")
        assert caught.value.code == "bad-machine"

    @pytest.mark.parametrize("name", ["name", "figures", "figures.disk_rate", "wanflow_machine"])
    def test_what_is_missing_is_named(self, data, name) -> None:
        """Every field and figure is needed."""
        head, _, figure = name.partition(".")
        del (data[head] if figure else data)[figure or head]

        with pytest.raises(InputError, match=f"f: {name} is missing"):
            parse(json.dumps(data), "f")

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "no JSON"),
            ("[]", "the file is not an object"),
            ('{"name": "a", "name": "b"}', "name is given twice"),
            ("[" * sys.getrecursionlimit(), "no JSON: nested too deep"),
            ('{"wanflow_machine": NaN}', "NaN is no figure"),
            ('{"wanflow_machine": -Infinity}', "-Infinity is no figure"),
            ('{"wanflow_machine": ' + "9" * 5000 + "}", "no JSON"),
        ],
    )
    def test_what_is_no_machine(self, text, said) -> None:
        """Whatever is in the file, the answer is a message."""
        with pytest.raises(InputError, match="f: ") as caught:
            parse(text, "f")

        assert said in caught.value.message

    def test_infinity_written_as_a_number(self, data) -> None:
        """JSON has no infinity, but 1e999 is one."""
        text = json.dumps(data).replace("1000000000.0", "1e999")

        with pytest.raises(InputError, match="is inf, not from"):
            parse(text, "f")

    def test_random_damage(self, data) -> None:
        """A machine or a message, never anything else."""
        rng, text = random.Random(7), json.dumps(data)  # noqa: S311
        for _ in range(500):
            at = rng.randrange(len(text))
            broken = text[:at] + chr(rng.randrange(1, 300)) + text[at + rng.randrange(3) :]
            try:
                machine = parse(broken, "f")
            except InputError as error:
                machine, said = None, error.message
            assert machine is not None or said.startswith("f: ")
            if machine is not None:
                assert all(math.isfinite(v) for v in machine.figures.values())


class TestStore:
    """Where machines are kept."""

    @pytest.fixture(autouse=True)
    def home(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def test_kept_and_found(self, cpu, tmp_path) -> None:
        """The file is named after the machine, in plain letters."""
        machine = attrs.evolve(cpu, name="NVIDIA GeForce RTX 4090")
        path = store.save(machine)

        assert path == tmp_path / "wanflow/machines/nvidia-geforce-rtx-4090.json"
        assert machine == store.load("NVIDIA GeForce RTX 4090")
        assert machine == store.find("nvidia-geforce-rtx-4090")
        assert [machine] == store.stored()
        assert [path] == list(path.parent.iterdir())

    def test_home_is_the_default(self, monkeypatch, tmp_path) -> None:
        """Where the variable is not set."""
        monkeypatch.delenv("XDG_CONFIG_HOME")
        monkeypatch.setenv("HOME", str(tmp_path))

        assert store.folder() == tmp_path / ".config/wanflow/machines"

    def test_nothing_stored(self) -> None:
        """No folder yet is no problem."""
        assert store.load("cpu") is None
        assert store.stored() == []
        assert named_machine("cpu") == store.find("cpu")

    def test_a_stored_one_goes_first(self, cpu) -> None:
        """What was measured here is better than a datasheet."""
        mine = attrs.evolve(cpu, name="rtx4090")
        store.save(mine)

        assert mine == store.find("RTX4090")

    def test_the_hint_has_the_stored_ones(self, cpu) -> None:
        """They can be meant too."""
        store.save(cpu)

        with pytest.raises(InputError) as caught:
            store.find("toi")
        assert "did you mean 'toy'?" in caught.value.hint

    @pytest.mark.parametrize("name", ["", "...", "a" * 101, "a\nb", "\x1b[31m"])
    def test_a_name_that_names_no_file(self, name) -> None:
        """It is refused."""
        with pytest.raises(InputError):
            store.path_of(name)

    @pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/b"])
    def test_a_name_does_not_leave_the_folder(self, name) -> None:
        """Slashes are hyphens."""
        assert store.path_of(name).parent == store.folder()

    @pytest.mark.parametrize("content", [b"\xff", b" " * (2**20 + 1), b""])
    def test_a_damaged_file(self, content) -> None:
        """The message has its path."""
        path = store.path_of("cpu")
        path.parent.mkdir(parents=True)
        path.write_bytes(content)

        with pytest.raises(InputError, match=r"cpu\.json"):
            store.find("cpu")

    def test_a_failed_write_leaves_the_old_file(self, cpu, monkeypatch) -> None:
        """And no part of the new one."""
        path = store.save(cpu)
        before = path.read_bytes()

        def fail(_handle):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", fail)
        with pytest.raises(OSError, match="No space"):
            store.save(attrs.evolve(cpu, about="new"))
        assert (before, [path]) == (path.read_bytes(), list(path.parent.iterdir()))
