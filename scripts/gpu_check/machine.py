"""What `wanflow doctor` says of the card, and its rates beside those it is planned with."""

from __future__ import annotations

import attrs
import torch

from scripts.gpu_check.checking import Checking
from wanflow.cli.doctor import examine
from wanflow.scheduler.machine.figures import FLOPS, RATES
from wanflow.scheduler.run.probe import probe
from wanflow.session.machines import estimate

PART = "machine"


def doctor(check: Checking) -> None:
    """Everything it knows, and no problem."""
    report = examine()
    problems = report["problems"]
    said = "; ".join(problems) or "none"
    check.add(PART, "problems that doctor finds", "none", said, not problems, report=report)


def rates(check: Checking) -> None:
    """Probe the card; the figures that plans are made with before that are estimates."""
    device = check.torch_device
    before = estimate(device)
    with torch.cuda.device(device):  # pinning names no card
        after = probe(device, before, check.folder)
    unmeasured = [name for name in FLOPS + RATES if after.source(name) != "measured"]
    check.add(
        PART, "figures that the probe can't measure", "none", ", ".join(unmeasured) or "none",
        not unmeasured, machine=attrs.asdict(after),
    )  # fmt: skip
    for name in (
        "gemm.bfloat16",
        "attention.bfloat16",
        "conv.bfloat16",
        "memory_rate",
        "upload_rate",
    ):
        share = after.figure(name) / before.figure(name)
        check.add(PART, f"{name}, measured / estimated", "", f"{share:.2f}", None)
    check.add(
        PART, "context", f"at most {before.context_bytes >> 20} MiB",
        f"{after.context_bytes >> 20} MiB", after.context_bytes <= before.context_bytes,
    )  # fmt: skip
