import pytest

from deit_pipe.store.places import local


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """No fsync: it protects from a power cut, which no test here makes, and takes most of their time."""
    monkeypatch.setattr(local.os, "fsync", lambda _: None)
