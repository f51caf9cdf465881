from pathlib import Path

import pytest
from stage_fakes import cache_options, write_idx

from deit_pipe.stages import cache_teacher
from deit_pipe.stages.console.errors import UsageProblem
from deit_pipe.stages.teaching.batch_choice import choose_batch, padding
from deit_pipe.store.errors import CacheMismatch
from deit_pipe.store.ledger import read_ledger
from deit_pipe.store.manifest import read_teacher

NAME = "test_resnet.r160_in1k"


def computed(num_samples: int, block: int, batch: int) -> int:
    """Views that a teacher computes in an epoch, counted one batch at a time."""
    total = 0
    for start in range(0, num_samples, block):
        for _ in range(start, min(start + block, num_samples), batch):
            total += batch
    return total


@pytest.mark.parametrize(
    ("num_samples", "block", "group", "batch"),
    [
        (100, 256, 2, 52),
        (1437, 256, 2, 64),  # 2.4 % padding
        (1_281_167, 8192, 2, 64),
        (96, 32, 4, 32),
        (65, 256, 2, 34),
        (7, 256, 2, 16),
        (1000, 512, 128, 128),
        (1000, 768, 96, 96),
    ],
)
def test_the_padding_stays_under_five_percent_where_it_can(
    num_samples: int, block: int, group: int, batch: int
) -> None:
    assert choose_batch(num_samples, block, group) == batch
    share = computed(num_samples, block, batch) / num_samples - 1
    assert padding(num_samples, block, batch) == pytest.approx(share)
    assert share < 0.05 or num_samples <= 7 or group > 64


def test_every_number_of_images_is_served_well() -> None:
    for num_samples in range(64, 3000, 7):
        assert padding(num_samples, 256, choose_batch(num_samples, 256, 2)) < 0.05


def test_a_new_cache_gets_it_with_a_line_and_an_old_one_keeps_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_idx(tmp_path / "data", train=100)
    new = {"block": None, "epochs": 1, "recipe": "basic"}
    cache_teacher.run(cache_options(data, tmp_path / "new", batch_size=None, **new))
    said = capsys.readouterr().err
    assert (
        "the teacher sees 52 views at once instead of 64: 100 images in blocks of 100 are padded by 4 % instead of 28 %"
        in (said.replace("%", " %"))
    )
    assert read_teacher(str(tmp_path / "new"), NAME).batch_size == 52

    cache_teacher.run(cache_options(data, tmp_path / "old", batch_size=32, **new))
    assert "at once instead of" not in capsys.readouterr().err
    cache_teacher.run(cache_options(data, tmp_path / "old", batch_size=None, **(new | {"epochs": 2})))
    assert read_teacher(str(tmp_path / "old"), NAME).batch_size == 32
    assert read_ledger(str(tmp_path / "old"), NAME).epochs == 2
    with pytest.raises(CacheMismatch, match="batch"):
        cache_teacher.run(cache_options(data, tmp_path / "old", batch_size=50, **(new | {"epochs": 2})))


def test_no_batch_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="--batch-size cannot be 0"):
        cache_options(tmp_path, tmp_path, batch_size=0)
