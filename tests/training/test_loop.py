"""Checkpoints: a run that was cut goes on as if it had not been."""

import threading

import pytest
import torch

from scripts.train_tiny.loop import Loop, plateau, rate, wait_for


def trained(folder, *stops):
    """Steps of a small problem up to each stop in turn, in a new process's state each time."""
    for stop in stops:
        torch.manual_seed(1)
        model = torch.nn.Linear(3, 1)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        loop = Loop(folder, "small", stop, {"model": model, "optimizer": optimizer}, log_every=2)
        for step in loop:
            data = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
            loss = (model(data) - data.sum(1, keepdim=True)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loop.note(loss=float(loss.detach()))
    return model.weight.detach()


class TestLoop:
    def test_a_cut_run_ends_with_the_same_weights(self, tmp_path):
        """Weights, optimizer and step come from the checkpoint, the data from the step."""
        whole = trained(tmp_path / "whole", 9)
        assert whole.equal(trained(tmp_path / "cut", 4, 9))

    def test_a_finished_run_does_nothing_more(self, tmp_path):
        """The same command again leaves the log as it is."""
        trained(tmp_path, 6)
        log = (tmp_path / "log.jsonl").read_text()
        trained(tmp_path, 6)
        assert log == (tmp_path / "log.jsonl").read_text()

    def test_no_half_checkpoint_is_left(self, tmp_path):
        """It is written beside and renamed."""
        trained(tmp_path, 3)
        assert {"small.pt", "log.jsonl"} == {path.name for path in tmp_path.iterdir()}

    def test_nothing_begins_while_the_quiet_file_is_there(self, tmp_path):
        """The wait ends when the file goes, and not before."""
        quiet, ended = tmp_path / "quiet", threading.Event()
        quiet.touch()
        waiting = threading.Thread(target=lambda: (wait_for(quiet), ended.set()))
        waiting.start()
        assert not ended.is_set()
        quiet.unlink()
        waiting.join()
        assert ended.is_set()


class TestRates:
    @pytest.mark.parametrize("schedule", [rate, plateau])
    def test_it_rises_and_falls_to_next_to_nothing(self, schedule):
        """No step of a phase is above the top rate; its last ones are small."""
        rates = [schedule(step, 500, 1.0) for step in range(500)]
        assert rates[0] < 0.05
        assert 0.99 < max(rates) <= 1
        assert rates[-1] < 0.03

    def test_the_length_may_change_before_the_fall(self):
        """A plateau is the same for 500 steps and for 900 until the first begins to fall."""
        both = [[plateau(step, steps, 1.0) for step in range(350)] for steps in (500, 900)]
        assert both[0] == both[1]
