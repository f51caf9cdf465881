from pathlib import Path

import pytest
from stage_fakes import cache_options, write_idx, write_recipe

from deit_pipe.stages import cache_teacher


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """IDX data: 96 training, 32 validation images of 4 classes."""
    return write_idx(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything DeiT does to a view, at a mix group of 4."""
    return write_recipe(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory, data: Path, recipe: Path) -> Path:
    """A complete dense cache of 2 epochs under the full recipe; read only."""
    folder = tmp_path_factory.mktemp("cache") / "cache"
    cache_teacher.run(cache_options(data, folder, recipe=str(recipe)))
    return folder
