"""Running: what is refused before a folder is made."""

import pytest

from wanflow.errors import BudgetError, InputError
from wanflow.session import run


class TestRefused:
    """A run that can't be is refused before it leaves anything."""

    def test_named_machine(self, request_for, tmp_path):
        """A plan for another machine can't be run on this one."""
        with pytest.raises(InputError, match="'rtx4090' is for planning"):
            run(request_for(machine="rtx4090"), out=tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_small_budget(self, request_for, tmp_path):
        """A budget that can't hold it: exit 3."""
        with pytest.raises(BudgetError) as caught:
            run(request_for(vram="1MiB"), out=tmp_path / "out")
        assert caught.value.exit_code == 3
        assert not (tmp_path / "out").exists()
