"""Spilled values on the host: copied out, kept byte for byte, and brought back ahead of their use.

What moves is a value's whole storage, so that it comes back with the same strides.
"""

from __future__ import annotations

import attrs
import torch

from wanflow.scheduler.run.devices import DONE, Device, Ticket


@attrs.frozen
class _HostLayout:
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    @classmethod
    def of(cls, tensor: torch.Tensor) -> _HostLayout:
        shape, stride = tuple(tensor.shape), tuple(tensor.stride())
        return cls(tensor.dtype, shape, stride, int(tensor.storage_offset()))

    def over(self, memory: torch.Tensor) -> torch.Tensor:
        """Lay the value over a uint8 tensor of its bytes."""
        empty = torch.empty(0, dtype=self.dtype, device=memory.device)
        return empty.set_(memory.untyped_storage(), self.offset, self.shape, self.stride)  # type: ignore[call-overload, no-any-return, unused-ignore]


@attrs.frozen
class _Spilled:
    layout: _HostLayout
    memory: torch.Tensor
    copied: Ticket


def bytes_of(tensor: torch.Tensor) -> torch.Tensor:
    """All bytes of a tensor's storage, as uint8; no copy."""
    empty = torch.empty(0, dtype=torch.uint8, device=tensor.device)
    storage = tensor.untyped_storage()
    return empty.set_(storage, 0, (storage.nbytes(),), (1,))  # type: ignore[call-overload, no-any-return, unused-ignore]


class HostValues:
    """The values that are away, by number, in buffers that are used again by their size."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._away: dict[int, _Spilled] = {}
        self._spare: dict[int, list[tuple[torch.Tensor, Ticket]]] = {}

    def spill(self, number: int, tensor: torch.Tensor) -> None:
        """Copy a value out; kernels that are launched after this may overwrite its memory."""
        source = bytes_of(tensor)
        memory = self._buffer(source.numel())
        copied = self._device.download(source, memory)
        copied.wait()
        self._away[number] = _Spilled(_HostLayout.of(tensor), memory, copied)

    def put(self, number: int, tensor: torch.Tensor) -> None:
        """Keep a value that comes from elsewhere (a resumed run)."""
        memory = self._buffer(tensor.untyped_storage().nbytes())
        memory.copy_(bytes_of(tensor))
        self._away[number] = _Spilled(_HostLayout.of(tensor), memory, DONE)

    def kept(self, number: int) -> torch.Tensor | None:
        """A value as it lies on the host, None when it isn't away. Not to be written to."""
        away = self._away.get(number)
        if away is None:
            return None
        away.copied.host_is_free()
        return away.layout.over(away.memory)

    def slab(self, number: int) -> torch.Tensor:
        """Make the memory on the device that a value comes back to."""
        return self._device.slab(self._away[number].memory.numel())

    def upload(self, number: int, slab: torch.Tensor) -> Ticket:
        """Start the copy back; may be called from the reader's thread."""
        away = self._away[number]
        away.copied.host_is_free()
        return self._device.upload(away.memory, slab)

    def back(self, number: int, slab: torch.Tensor, arrived: Ticket) -> torch.Tensor:
        """Give the value that has come back; its buffer is for another one, once it was read."""
        away = self._away.pop(number)
        self._spare.setdefault(away.memory.numel(), []).append((away.memory, arrived))
        return away.layout.over(slab)

    def clear(self) -> None:
        """Let everything go."""
        self._away.clear()
        self._spare.clear()

    def _buffer(self, nbytes: int) -> torch.Tensor:
        spare = self._spare.get(nbytes)
        if not spare:
            return self._device.host_buffer(nbytes)
        memory, read = spare.pop(0)  # the one that came back first
        read.host_is_free()
        return memory
