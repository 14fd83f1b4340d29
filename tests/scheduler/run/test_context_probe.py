"""What another process takes of a card; here is none, and the child that finds none says so."""

import pytest
import torch

from wanflow.remarks import take_remarks
from wanflow.scheduler.machine.datasheets import named_machine
from wanflow.scheduler.run import probe as probing
from wanflow.scheduler.run.context_probe import run_one_of_each, taken_by_another_process
from wanflow.units import MIB

CARD = torch.device("cuda", 1)


@pytest.fixture
def ops(monkeypatch):
    """Hear which kernels run."""
    names = set()

    class Hears(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            names.add((func._overloadpacket.__name__, getattr(args[0], "dtype", None)))
            return func(*args, **(kwargs or {}))

    with Hears():
        yield names


@pytest.mark.filterwarnings("ignore:.*kernel not used")
def test_one_of_each(ops):
    """Products, convolutions and attention in each type, and the solution that UniPC needs."""
    run_one_of_each(torch.device("cpu"))
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        kernels = {name for name, of in ops if of == dtype}
        assert {"mm", "convolution"} <= kernels
        assert any("attention" in name for name in kernels)
    assert any("solve" in name for name, _ in ops)


def test_a_child_that_can_not(monkeypatch, capfd):
    """Its last words are the reason; its traceback is nobody's to read."""
    monkeypatch.setattr("torch.cuda.synchronize", lambda _device: None)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda _device: (1, 2))
    with pytest.raises(RuntimeError, match=r"cuda|CUDA|NVIDIA"):
        taken_by_another_process(CARD)
    assert capfd.readouterr() == ("", "")


class TestFigures:
    def measured(self, monkeypatch, answer):
        monkeypatch.setattr(probing, "taken_by_another_process", answer)
        take_remarks()
        return probing._context(CARD, named_machine("rtx4090"))

    @pytest.mark.parametrize(("taken", "wanted"), [(300 * MIB, 512 * MIB), (700 * MIB, 700 * MIB)])
    def test_never_less_than_the_estimate(self, monkeypatch, taken, wanted):
        """A figure too small is found out in the middle of a run."""
        samples = self.measured(monkeypatch, lambda _device: (taken, 80 * MIB))
        assert samples["context_bytes"].value == wanted
        assert samples["library_bytes"].value == 80 * MIB

    def test_an_exclusive_card(self, monkeypatch):
        """The driver's words, and what they mean."""

        def refused(_device):
            raise RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable")

        assert self.measured(monkeypatch, refused) == {}
        (said,) = take_remarks()
        assert said.startswith(
            "the context was not measured: another process may not use the card, its compute mode "
            "is exclusive (CUDA error: "
        )
