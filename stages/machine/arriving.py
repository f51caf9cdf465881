"""Numbers on their way from the device to the host: whoever needs them later does not wait for them now."""

import torch
from torch import Tensor


class Arriving:
    """A copy to the host that has begun; on a GPU it goes on beside whatever is asked of it next."""

    def __init__(self, values: Tensor) -> None:
        """Begin to copy values [n]."""
        self._values, self._event = values, None
        if values.device.type == "cuda":
            self._values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self._values.copy_(values, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()

    def read(self) -> list[float]:
        """The numbers; waits until they are there."""
        if self._event is not None:
            self._event.synchronize()
        return [float(value) for value in self._values.tolist()]
