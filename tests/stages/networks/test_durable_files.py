import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from deit_pipe.stages.networks import tensor_file
from deit_pipe.stages.networks.durable_files import naming, partial_of, replace_durably, sync_folder, write_partial
from deit_pipe.stages.networks.tensor_file import save_tensors


def test_what_a_killed_process_left_aside_is_written_anew_and_a_link_there_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("precious")
    partial_of(tmp_path / "a").symlink_to(outside)
    partial_of(tmp_path / "b").write_text("half")
    for name in ("a", "b"):
        write_partial(tmp_path / name, b"whole")
        replace_durably(tmp_path / name)
        assert (tmp_path / name).read_bytes() == b"whole"
    (tmp_path / "c").symlink_to(outside)
    save_tensors({"w": torch.ones(2)}, tmp_path / "c")
    assert torch.equal(load_file(tmp_path / "c")["w"], torch.ones(2))
    assert outside.read_text() == "precious"


def test_an_error_without_a_name_gets_one_and_another_keeps_its_own(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="here") as unnamed, naming(tmp_path / "here"):
        raise OSError(errno.ENOSPC, "full")
    assert unnamed.value.errno == errno.ENOSPC
    with pytest.raises(OSError, match="/there"), naming(tmp_path / "here"):
        raise OSError(errno.ENOSPC, "full", "/there")


def test_what_the_tensor_library_says_of_the_system_is_the_systems_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(tensor_file, "save_file", full)
    with pytest.raises(OSError, match=r"w\.safetensors") as error:
        save_tensors({"w": torch.ones(2)}, tmp_path / "w.safetensors")
    assert error.value.errno == errno.ENOSPC


@pytest.mark.parametrize(("number", "raised"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)])
def test_a_folder_that_cannot_be_synced_is_left_at_that_but_not_a_failing_disk(
    number: int, raised: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", failing)
    if raised:
        with pytest.raises(OSError, match="Input/output"):
            sync_folder(tmp_path)
    else:
        sync_folder(tmp_path)
