"""What a run folder says of itself: the request, and what it must find unchanged to go on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from wanflow.errors import InputError
from wanflow.files.run_files import PLAN, REQUEST, RUN, TRACE
from wanflow.files.whole import unreadable, unwritable, write_json
from wanflow.models.weights.identity import identity
from wanflow.session.preparing.input_files import content, paths_of
from wanflow.session.preparing.prepared import Prepared
from wanflow.session.preparing.recipe import versions
from wanflow.session.request import Request


@attrs.frozen
class Job:
    """A run's request and fingerprint, in its folder."""

    folder: Path
    request: Request
    fingerprint: Mapping[str, object]

    def write(self) -> None:
        """Put it into the folder."""
        request = plain_request(self.request)
        write_json(self.folder / REQUEST, {"request": request, "fingerprint": self.fingerprint})

    @classmethod
    def read(cls, folder: Path) -> Job:
        """Read it; InputError: *folder* is no run folder. StageFailed: it can't be read now."""
        path = folder / REQUEST
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            return cls(folder, request_of(data["request"]), dict(data["fingerprint"]))
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(
                f"{folder}: is no run folder", hint="a run folder holds request.json", code="no-run"
            ) from None
        except OSError as error:
            raise unreadable(path, error) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: damaged: {error}", code="bad-run") from None

    def going_on(self, allow_nonfinite: bool, preview_every: int | None, until: str) -> Job:
        """The same with what may be asked for otherwise when it goes on.

        Where it was to stop before is forgotten.
        """
        request = attrs.evolve(
            self.request,
            allow_nonfinite=allow_nonfinite or self.request.allow_nonfinite,
            preview_every=self.request.preview_every if preview_every is None else preview_every,
            until=until,
        )
        return attrs.evolve(self, request=request)

    def knobs(self) -> dict[str, dict[str, str]]:
        """The knobs of each stage in the folder's last plan; none where there is none, or damaged.

        StageFailed where it can't be read now: other knobs might round otherwise.
        """
        path = self.folder / PLAN
        try:
            plan = json.loads(path.read_text(encoding="utf-8"))
            return {stage["stage"]: dict(stage["knobs"]) for stage in plan["stages"]}
        except (FileNotFoundError, ValueError, LookupError, TypeError):
            return {}
        except OSError as error:
            raise unreadable(path, error) from None

    def check(self, now: Mapping[str, object]) -> None:
        """InputError naming what is not as it was."""
        changed = [
            f"{name} was {_short(self.fingerprint.get(name))}, is {_short(now.get(name))}"
            for name in dict.fromkeys([*self.fingerprint, *now])
            if now.get(name) != self.fingerprint.get(name)
        ]
        if changed:
            raise InputError(
                f"{self.folder}: can't go on: {'; '.join(changed)}",
                hint="run it anew: wanflow run GRAPH --out DIR",
                code="run-changed",
            )


def plain_request(request: Request) -> dict[str, Any]:
    """Give a request as plain data that stay true in another folder."""
    plain = attrs.asdict(request, recurse=False)
    graph = Path(request.graph)
    plain["graph"] = str(graph.resolve()) if graph.is_file() else request.graph
    plain["inputs"] = _plain(request.inputs)
    plain["weights"] = [_absolute(text) for text in request.weights]
    return plain


def request_of(plain: Mapping[str, Any]) -> Request:
    """Read what `plain_request` gave; TypeError or ValueError for what is no request."""
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}
    fields["graph"] = str(Path(fields["graph"]))  # TypeError for what is no name
    return Request(**fields)


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _absolute(weights: str) -> str:
    """Keep `[MODEL=]PATH` true when the run goes on from another folder."""
    model, separator, path = weights.rpartition("=")
    return f"{model}{separator}{Path(path).resolve()}" if Path(path).exists() else weights


def _plain(inputs: Mapping[str, object]) -> dict[str, object]:
    return {name: v if isinstance(v, int | float) else str(v) for name, v in inputs.items()}


def fingerprint(prepared: Prepared) -> dict[str, Any]:
    """What decides the picture: graph, inputs, precision, versions, and which weights."""
    facts: dict[str, Any] = {
        "graph": _digest(prepared.graph.source.text),
        **{f"input {n}": v for n, v in _plain(prepared.graph.inputs).items()},
        "settings": sorted(prepared.request.settings),
    }
    for name in prepared.files:
        if paths := paths_of(prepared.files[name], prepared.graph.inputs[name]):
            contents = [content(prepared.opened.get(path), Path(path)) for path in paths]
            facts[f"input {name}"] = ",".join(Path(path).name for path in paths)
            facts[f"content of {name}"] = ",".join(contents)
    facts |= {f"version of {name}": version for name, version in versions().items()}
    for name, model in prepared.models.items():
        facts[f"precision of {name}"] = f"{model.precision} {model.packing}".strip()
        if model.checkpoint is not None:
            facts[f"weights of {name}"] = identity(model.checkpoint)[:16]
        for number, lora in enumerate(model.adapters.loras):
            digest = identity(lora.file.checkpoint)[:16]
            facts[f"LoRA {number + 1} of {name}"] = f"{lora.words} {digest}"
        if model.loras:
            facts["lora-partial"] = prepared.request.lora_partial
    return facts


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def finished_report(folder: Path) -> dict[str, object] | None:
    """The report of a run that is done, or None; StageFailed where it can't be read now."""
    path = folder / RUN
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError as error:
        raise unreadable(path, error) from None
    return report if isinstance(report, dict) and report.get("status") == "done" else None


def keep_trace(folder: Path) -> None:
    """Put the trace of the run before aside, as `trace-1.msgpack` on."""
    trace = folder / TRACE
    if trace.exists():
        numbers = (folder / f"trace-{n}.msgpack" for n in range(1, 10_000))
        aside = next(path for path in numbers if not path.exists())
        try:
            trace.rename(aside)
        except OSError as error:
            raise unwritable(aside, error) from None
