"""The hub's own cache: `models--ORG--NAME/{blobs,refs,snapshots/COMMIT}`, to the snapshot in it."""

from __future__ import annotations

from pathlib import Path

from wanflow.errors import WeightsError

_REPOSITORY = "models--"
_NAMED = 3


def snapshot_of(path: Path) -> Path:
    """Give the snapshot that the folder of a repository means; any other path as it is.

    It is what `refs/main` names, or the only one. WeightsError where it is not plain which.
    """
    repository = path.parent if path.name == "snapshots" else path
    has = [(repository / name).is_dir() for name in ("blobs", "refs", "snapshots")]
    is_repository = any(has) if repository.name.startswith(_REPOSITORY) else all(has)
    return _snapshot(repository) if is_repository else path


def cached(cache: Path, name: str) -> list[Path]:
    """The folders of a model in the hub's cache, official before diffusers' layout."""
    endings = (name, f"{name}-Diffusers")
    return [path for ending in endings for path in sorted(cache.glob(f"{_REPOSITORY}*--{ending}"))]


def repositories(path: Path) -> str:
    """Name the repositories in the hub's cache or in the folder above it; nothing elsewhere."""
    there = [*path.glob(f"{_REPOSITORY}*"), *(path / "hub").glob(f"{_REPOSITORY}*")]
    return _names(sorted(there)) if there else ""


def _snapshot(repository: Path) -> Path:
    there = sorted(folder for folder in (repository / "snapshots").glob("*") if folder.is_dir())
    main = repository / "refs" / "main"
    if main.is_file():
        named = main.read_text(encoding="utf-8", errors="replace").strip()
        for snapshot in there:
            if snapshot.name == named:
                return snapshot
    if len(there) == 1:
        return there[0]
    raise WeightsError(
        f"{repository}: has {len(there) or 'no'} snapshots, and refs/main names none of them",
        hint=f"give one of them: {_names(there)}" if there else "download it again",
        code="several-weights" if there else "missing-weights",
    )


def _names(folders: list[Path]) -> str:
    shown = ", ".join(map(str, folders[:_NAMED]))
    return shown if len(folders) <= _NAMED else f"{shown} and {len(folders) - _NAMED} more"
