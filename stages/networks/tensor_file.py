"""Tensors to a safetensors file: durable, with the mode that the umask gives, errors as the operating system's."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from deit_pipe.stages.networks.durable_files import naming, sync_file

_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a safetensors file in place; a caller who needs it whole or absent writes it aside.

    Raises:
        OSError: with the file's name, whatever the library makes of it.
    """
    with naming(path):
        path.unlink(missing_ok=True)
        with path.open("xb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777  # what the umask gives; the library writes 0600
        try:
            save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
        except SafetensorError as error:
            if (found := _SYSTEM_ERROR.search(str(error))) is None:
                raise
            number = int(found[1])
            raise OSError(number, os.strerror(number)) from error
        path.chmod(mode)
        sync_file(path)
