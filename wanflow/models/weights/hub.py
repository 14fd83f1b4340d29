"""The Hugging Face hub: what a repository holds at a commit, and a file of it fetched or gone on.

The only module that reaches the network, and only `wanflow models download` calls it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Self

import attrs

from wanflow import __version__
from wanflow.errors import InputError, WanflowError, WeightsError

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

_READ_BYTES = 8 << 20
_SHA256_DIGITS = 64
_NOT_LET_IN = (401, 403)


@attrs.frozen
class HubFile:
    """A file of a repository: its path there, its size, its SHA-256, or Git's SHA-1 if small."""

    path: str
    nbytes: int
    digest: str


@attrs.frozen
class Snapshot:
    """The files of a repository at one commit; *revision* is what was asked for."""

    repo: str
    revision: str
    commit: str
    files: tuple[HubFile, ...]


def look(repo: str, revision: str | None) -> Snapshot:
    """Ask what *repo* holds at *revision* (its main branch); InputError where there is no such."""
    with _explained(repo, revision):
        from huggingface_hub import HfApi, constants

        asked = revision or constants.DEFAULT_REVISION
        api = HfApi(
            endpoint=constants.ENDPOINT, library_name="wanflow", library_version=__version__
        )
        info = api.model_info(repo, revision=asked, files_metadata=True)
    if info.sha is None:
        raise WeightsError(f"{repo}: the hub names no commit of {asked}", code="hub-answer")
    files = tuple(_file(repo, sibling) for sibling in info.siblings or ())
    return Snapshot(repo, asked, info.sha, files)


def fetch(snapshot: Snapshot, file: HubFile, part: Path, advance: Callable[[int], None]) -> None:
    """Fetch a file of *snapshot* into *part*, from where *part* ends; a short line is taken up.

    *advance* is told the bytes that came, and fewer than none where a server began again.
    WeightsError when the connection is lost for good: *part* keeps what came.
    """
    with _explained(snapshot.repo, snapshot.revision), part.open("ab") as target:
        from huggingface_hub import constants, hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

        url = hf_hub_url(
            snapshot.repo, file.path, revision=snapshot.commit, endpoint=constants.ENDPOINT
        )
        headers = build_hf_headers(library_name="wanflow", library_version=__version__)
        http_get(
            url,
            target,
            resume_size=target.tell(),
            headers=headers,
            expected_size=file.nbytes,
            tqdm_class=_bar(advance),
        )


def is_same(path: Path, file: HubFile) -> bool:
    """Whether *path* has the size and the digest of *file*; the whole of it is read."""
    if path.stat().st_size != file.nbytes:
        return False
    is_large = len(file.digest) == _SHA256_DIGITS
    digest = hashlib.sha256() if is_large else hashlib.sha1(usedforsecurity=False)
    if not is_large:
        digest.update(b"blob %d\0" % file.nbytes)
    with path.open("rb") as data:
        while read := data.read(_READ_BYTES):
            digest.update(read)
    return digest.hexdigest() == file.digest


def _file(repo: str, sibling: RepoSibling) -> HubFile:
    path = PurePosixPath(sibling.rfilename)
    size, digest = sibling.size, sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
    if path.is_absolute() or ".." in path.parts or size is None or not digest:
        raise WeightsError(
            f"{repo}: the hub says too little of the file {str(path)!r}", code="hub-answer"
        )
    return HubFile(str(path), size, digest)


def _bar(advance: Callable[[int], None]) -> Any:
    """What the library takes for a progress bar and is none: it hands the bytes on."""

    class TransferBar:
        def __init__(self, **_: object) -> None:
            pass

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def update(self, nbytes: int) -> None:
            advance(nbytes)

    return TransferBar


@contextmanager
def _explained(repo: str, revision: str | None) -> Iterator[None]:
    """Say what the hub's errors mean to the person who asked."""
    import httpx2
    from huggingface_hub import constants, errors

    # Its notes on each attempt: what it comes to, we say. And nothing is told of this computer.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    constants.HF_HUB_DISABLE_TELEMETRY = True
    try:
        yield
    except errors.OfflineModeIsEnabled:
        raise WeightsError(
            f"{repo}: HF_HUB_OFFLINE is set, so the hub is not asked",
            hint="unset HF_HUB_OFFLINE for this command",
            code="offline",
        ) from None
    except errors.HFValidationError:
        raise InputError(
            f"{repo!r} is no name of a repository",
            hint="write OWNER/NAME, as in Wan-AI/Wan2.1-T2V-1.3B",
            code="unknown-repository",
        ) from None
    except errors.HfHubHTTPError as error:
        raise _answered(repo, revision, error) from None
    except httpx2.HTTPError as error:
        raise WeightsError(
            f"{repo}: the hub can't be reached: {_first_line(error)}",
            hint="the same command goes on where it stopped",
            code="unreachable",
        ) from None
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # of this machine: a full disk, a folder that can't be written
        raise WeightsError(f"{repo}: {_first_line(error)}", code="hub-answer") from None


def _answered(repo: str, revision: str | None, error: Any) -> WanflowError:
    """The error for an answer that is no file."""
    from huggingface_hub import errors

    status = error.response.status_code
    unknown = isinstance(error, errors.RepositoryNotFoundError)
    if isinstance(error, errors.RevisionNotFoundError):
        return InputError(
            f"{repo}: has no revision {revision!r}",
            hint="a branch, a tag or a commit; without --revision it is the main branch",
            code="unknown-revision",
        )
    if isinstance(error, errors.GatedRepoError) or (status in _NOT_LET_IN and not unknown):
        return WeightsError(
            f"{repo}: the hub does not let you in ({status})",
            hint="accept its terms on the hub, then `hf auth login`, or set HF_TOKEN",
            code="gated",
        )
    if unknown:
        return InputError(
            f"{repo}: no such repository on the hub, or a private one ({status})",
            hint="look at the spelling; for a private one `hf auth login`, or set HF_TOKEN",
            code="unknown-repository",
        )
    return WeightsError(
        f"{repo}: the hub answered {status}",
        hint="the same command goes on where it stopped",
        code="hub-answer",
    )


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
