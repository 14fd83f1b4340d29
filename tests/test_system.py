"""What the system and NVIDIA's driver say of a computer: read from files, asked by its library."""

import shutil
import subprocess

import pytest

from wanflow.system import Driver, SeenCard, ask_driver, look

_NONE = "libnvidia-ml-of-nobody.so"
_CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 2023\n"
_OPEN = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (root)\n"
    "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"
)
# A driver's library with the functions of nvml.h that are asked: one card, or what SAYS it.
_LIBRARY = r"""
#include <string.h>
typedef struct { unsigned long long total, free, used; } memory;
#ifndef SAYS
#define SAYS 0
#endif
int nvmlInit_v2(void) { return SAYS; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return "Driver/library version mismatch"; }
int nvmlSystemGetDriverVersion(char *text, unsigned n) { strncpy(text, "580.65.06", n); return 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 13020; return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return 0; }
static int card;
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **device) { *device = &card; return i; }
int nvmlDeviceGetName(void *d, char *text, unsigned n) { strncpy(text, "Tesla T4", n); return 0; }
int nvmlDeviceGetUUID(void *d, char *text, unsigned n) { strncpy(text, "GPU-1-2", n); return 0; }
int nvmlDeviceGetCudaComputeCapability(void *d, int *a, int *b) { *a = 7; *b = 5; return 0; }
int nvmlDeviceGetMemoryInfo(void *d, memory *m) {
  m->total = 15ull << 30; m->free = 11ull << 30; m->used = 4ull << 30; return d != &card;
}
"""


def _made(root, **files):
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A driver's library, built as C code would find the real one; another *says* an error."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("nvml")
    (folder / "nvml.c").write_text(_LIBRARY)

    def built(says=0):
        path = folder / f"libnvidia-ml-{says}.so"
        command = [compiler, "-shared", "-fPIC", f"-DSAYS={says}", "-o", path, folder / "nvml.c"]
        subprocess.run(command, check=True)
        return str(path)

    return built


class TestDriver:
    """NVIDIA's driver, by its own library."""

    def test_answers(self, library):
        """Its version, the newest CUDA it runs, its cards with what is free of them."""
        gib = 1 << 30
        card = SeenCard("Tesla T4", "GPU-1-2", (7, 5), 15 * gib, 11 * gib)
        assert ask_driver(library()) == Driver("580.65.06", (13, 2), (card,))

    def test_says_what_is_wrong(self, library):
        """A driver that was updated and not loaded anew has nothing but its complaint."""
        assert ask_driver(library(18)) == Driver(problem="Driver/library version mismatch")

    def test_is_not_there(self):
        """Without the library nothing is known."""
        assert ask_driver(_NONE) == Driver()


class TestSystem:
    """A computer by its files."""

    @pytest.mark.parametrize(("text", "version"), [(_CLOSED, "535.104.05"), (_OPEN, "580.65.06")])
    def test_kernel_module(self, tmp_path, text, version):
        """The driver's version is read where its library is not there: in a container, say."""
        root = _made(tmp_path, proc__driver__nvidia__version=text)
        (root / ".dockerenv").touch()
        seen = look(root, _NONE)
        assert (seen.driver.version, seen.nodes, seen.container) == (version, False, True)
        assert seen.has_card

    def test_nodes(self, tmp_path):
        """A card has a number; the driver's other nodes are none."""
        assert not look(_made(tmp_path, dev__nvidiactl=""), _NONE).nodes
        seen = look(_made(tmp_path, dev__nvidia0=""), _NONE)
        assert seen.nodes
        assert seen.has_card

    def test_wsl(self, tmp_path, library):
        """Windows' kernel says so; its node is a card of NVIDIA's only with the driver."""
        kernel = "Linux version 5.15.153.1-microsoft-standard-WSL2 (root@941d701f84f1)"
        root = _made(tmp_path, proc__version=kernel, dev__dxg="")
        assert (look(root, _NONE).wsl, look(root, _NONE).has_card) == (True, False)
        assert look(root, library()).nodes

    def test_nothing(self, tmp_path):
        """A computer without any of it."""
        seen = look(_made(tmp_path, proc__version="Linux version 6.1.0 (Debian)"), _NONE)
        assert (seen.has_card, seen.wsl, seen.container) == (False, False, False)
