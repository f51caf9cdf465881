"""A list made by check-data is taken by every command, recorded with the cache, and used from there."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from stage_fakes import cache_options, student_options
from view_images import encoded, photo

from deit_pipe.cli import main
from deit_pipe.pipeline.data_set import DataChoice, open_data
from deit_pipe.pipeline.errors import BadImage, PipelineError
from deit_pipe.stages import cache_teacher, evaluate, inspect_cache, train_student
from deit_pipe.stages.comparing.compared_runs import images_words
from deit_pipe.stages.console.errors import Mismatch
from deit_pipe.stages.opened.cache import open_cache
from deit_pipe.stages.opened.images import with_other_validation
from deit_pipe.stages.options.evaluate import EvaluateOptions
from deit_pipe.stages.options.inspect_cache import InspectCacheOptions
from deit_pipe.store.errors import CacheMismatch


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes with a bad image, one under two labels and one that is in two splits."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "photos"
    for seed, (folder, count) in enumerate({"train/ant": 9, "train/bee": 9, "val/ant": 4, "val/bee": 4}.items()):
        (root / folder).mkdir(parents=True)
        for i in range(count):
            (root / folder / f"{i}.png").write_bytes(encoded(photo(50 * seed + i, 32, 32), "PNG"))
    (root / "train/bee/bad\nname.png").write_bytes(b"x")
    (root / "train/bee/9.png").write_bytes((root / "train/ant/0.png").read_bytes())
    (root / "val/ant/9.png").write_bytes((root / "train/ant/1.png").read_bytes())
    return root


def call(*words: object) -> Result:
    return CliRunner().invoke(main, list(map(str, words)))


def test_from_the_check_to_the_evaluated_student(photos: Path, tmp_path: Path) -> None:
    made = call("check-data", photos, "--deep", "--write-exclude", "bad.txt")
    assert made.exit_code == 6
    assert "bad.txt: 4 images to leave away" in made.stdout
    assert made.stdout.splitlines()[-1] == f"next: deit-pipe check-data {photos} --exclude bad.txt --deep"
    assert [line for line in Path("bad.txt").read_text().splitlines() if not line.startswith("#")] == [
        r'"train/bee/bad\nname.png"',
        "train/ant/0.png",
        "train/bee/9.png",
        "train/ant/1.png",
    ]
    assert call("check-data", photos, "--deep", "--exclude", "bad.txt").exit_code == 0
    settings = {"recipe": "basic", "epochs": 1, "block": 16}
    with pytest.raises((BadImage, PipelineError)) as error:  # nothing is skipped by itself
        cache_teacher.run(cache_options(photos, tmp_path / "whole", **settings))
    assert error.value.exit_code == 6
    cache = tmp_path / "cache"
    cache_teacher.run(cache_options(photos, cache, exclude="bad.txt", **settings))
    assert open_cache(str(cache)).manifest.num_samples == 16
    Path("bad.txt").unlink()  # what it said is kept with the cache
    again = cache_teacher.run(cache_options(photos, cache, **settings | {"epochs": 2}))
    assert again.data["written"] > 0
    train_student.run(student_options(cache, tmp_path / "run", epochs=1, batch_size=8))
    done = evaluate.run(EvaluateOptions(run=str(tmp_path / "run"), workers=0, device="cpu"))
    assert "9 val images" in done.text
    replay = inspect_cache.run(InspectCacheOptions(cache=str(cache), replay="all"))
    assert replay.exit_code == 0


def test_another_list_is_another_choice_and_another_cache(photos: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    Path("one.txt").write_text("train/bee/9.png\ntrain/ant/1.png\n" + r'"train/bee/bad\nname.png"' + "\n")
    Path("two.txt").write_text("train/ant/2.png\n" + r'"train/bee/bad\nname.png"' + "\n")
    settings = {"recipe": "basic", "epochs": 1, "block": 16}
    cache_teacher.run(cache_options(photos, cache, exclude="one.txt", **settings))
    Path("copy.txt").write_text("# the same\n" + Path("one.txt").read_text())
    assert cache_teacher.run(cache_options(photos, cache, exclude="copy.txt", **settings)).data["written"] == 0
    with pytest.raises((Mismatch, CacheMismatch)) as error:
        cache_teacher.run(cache_options(photos, cache, exclude="two.txt", **settings))
    assert error.value.exit_code == 4
    assert "--exclude: cached 3 images (sha256 " in str(error.value)
    assert "given 2 images (sha256 " in str(error.value)


def test_what_is_excluded_of_training_stays_so_beside_other_validation_images(photos: Path, tmp_path: Path) -> None:
    (photos / "test" / "ant").mkdir(parents=True)
    (photos / "test" / "ant" / "seen.png").hardlink_to(photos / "train" / "ant" / "3.png")
    (tmp_path / "other" / "bee").mkdir(parents=True)
    (tmp_path / "other" / "bee" / "0.png").write_bytes((photos / "val/bee/0.png").read_bytes())
    found = open_data(str(photos), DataChoice(excluded=("train/ant/3.png", "val/ant/0.png")))
    other = with_other_validation(found, str(tmp_path / "other"))
    assert (len(other.train), len(other.val or ()), len(other.test or ())) == (19, 1, 1)


def test_a_list_joins_what_was_excluded_before(photos: Path) -> None:
    Path("mine.txt").write_text("ant/5.png\n")
    assert call("check-data", photos, "--deep", "--exclude", "mine.txt", "--write-exclude", "all.txt").exit_code == 6
    assert "# from mine.txt\nant/5.png\n" in Path("all.txt").read_text()
    clean = call("check-data", photos, "--deep", "--exclude", "all.txt", "--json")
    assert (clean.exit_code, '"images": 15' in clean.stdout) == (0, True)


@pytest.mark.parametrize("command", ["pack --out packed --data", "show-views", "check-data"])
def test_commands_that_open_images_take_the_list(photos: Path, command: str) -> None:
    Path("list.txt").write_text("train/ant/nine.png\n")
    result = call(*command.split(), photos, "--exclude", "list.txt")
    assert (result.exit_code, "Traceback" in result.output) == (3, False)
    assert "is called train/ant/nine.png" in result.output
    assert "nearest   train/ant/" in result.output


def test_runs_with_different_lists_are_different_lines_of_a_comparison() -> None:
    words = [images_words({"excluded": names}) for names in ([], ["a"], ["b"])]
    assert words[0] == "all"
    assert words[1].startswith("1 excluded (")
    assert len(set(words)) == 3
