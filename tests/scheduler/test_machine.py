"""Machines by name, and how long they take."""

import pytest

from wanflow.errors import InputError
from wanflow.scheduler.machine import Machine, cpu_machine, named_machine
from wanflow.units import GIB

NAMES = (
    "rtx3060", "rtx4060", "rtx4070s", "rtx4090", "rtx5090", "a100-40g", "a100-80g", "h100", "h200",
)  # fmt: skip


class TestNamed:
    """Machines with datasheet figures."""

    @pytest.mark.parametrize("name", NAMES)
    def test_known(self, name) -> None:
        """Each is a GPU whose figures are estimates, faster at half precision."""
        machine = named_machine(name)

        assert (name, "cuda", True) == (machine.name, machine.device, machine.estimated)
        assert machine.flops["bfloat16"] > machine.flops["float32"] > 0
        assert 0 < machine.context_bytes < machine.capacity_bytes

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
        assert all(name in caught.value.hint for name in ("cpu", *NAMES))

    def test_nothing_like_it(self) -> None:
        """No guess is made where there is none to make."""
        with pytest.raises(InputError) as caught:
            named_machine("zx spectrum")

        assert "did you mean" not in caught.value.hint


class TestSeconds:
    """Times from rates."""

    @pytest.fixture
    def machine(self) -> Machine:
        flops = {"float32": 1e12, "bfloat16": 2e12}
        return Machine("toy", "cuda", GIB, 0, flops, 1e11, 1e10, 1e9)

    def test_compute(self, machine) -> None:
        """Each kind of kernel reaches a share of the rate; the rest is memory traffic."""
        flops = {"gemm": 0.7e12, "attention": 0.5e12, "conv": 0.4e12}

        assert machine.compute_seconds(flops, 10**11, "float32") == pytest.approx(3 + 1)

    def test_dtype(self, machine) -> None:
        """Half precision is twice as fast here."""
        assert machine.compute_seconds({"gemm": 1.4e12}, 0, "bfloat16") == pytest.approx(1)

    def test_unknown_dtype_is_single(self, machine) -> None:
        """A dtype without a rate is taken for the slow one."""
        assert machine.compute_seconds({"gemm": 0.7e12}, 0, "int8") == pytest.approx(1)

    def test_load(self, machine) -> None:
        """From the disk, then up."""
        assert machine.load_seconds(10**9) == pytest.approx(1 + 0.1)

    def test_load_on_a_cpu(self) -> None:
        """There is no way up."""
        assert cpu_machine(GIB).load_seconds(2 * 10**9) == pytest.approx(1)
