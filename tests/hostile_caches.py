"""Caches that somebody made to harm whoever opens them: each a change of a good one, with what must come of it."""

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from store_fakes import create, fill, make_teacher

from deit_pipe.store.identity import canonical_digest
from deit_pipe.store.manifest import read_teacher

TEACHER = "none"
ESCAPES = "\x1b]0;owned\x07\x1b[31m\x9b31m\u202egnp\r"
SAMPLES = 100


def good_cache(place: Path) -> Path:
    """What each one begins as: one teacher, two epochs, 100 samples of 10 classes."""
    create(place)
    fill(place, make_teacher("none"), 2)
    return place


class Hostile(NamedTuple):
    """A change, the exit codes that are right, words of the output, and further words of the command."""

    change: Callable[[Path], None]
    code: int
    says: str = ""
    words: tuple[str, ...] = ()


def rewrite(place: Path, key: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a signed file so that its own SHA-256 fits."""
    path = place / key
    document = json.loads(path.read_text())
    change(document)
    content = {name: value for name, value in document.items() if name not in ("deit_pipe", "sha256")}
    path.write_text(json.dumps({**document, "sha256": canonical_digest(content)}))


def identity(key: str, **changed: Any) -> Callable[[Path], None]:
    """Other values in an identity."""
    return lambda place: rewrite(place, key, lambda document: document["identity"].update(changed))


def manifest(**changed: Any) -> Callable[[Path], None]:
    return identity("MANIFEST.json", **changed)


def teacher(**changed: Any) -> Callable[[Path], None]:
    return identity(f"teachers/{TEACHER}.json", **changed)


def recipe(**changed: Any) -> Callable[[Path], None]:
    def change(document: dict[str, Any]) -> None:
        views = document["identity"]
        views["recipe"].update(changed)
        views["recipe_digest"] = canonical_digest(views["recipe"])

    return lambda place: rewrite(place, "MANIFEST.json", change)


def content(key: str, data: bytes | str) -> Callable[[Path], None]:
    """A file's whole content."""
    return lambda place: (place / key).write_bytes(data if isinstance(data, bytes) else data.encode()) and None


def replaced(key: str, old: str, new: str) -> Callable[[Path], None]:
    """Other text in a file."""

    def change(place: Path) -> None:
        text = (place / key).read_text()
        assert old in text
        (place / key).write_text(text.replace(old, new, 1))

    return change


def signed(key: str, data: dict[str, Any]) -> Callable[[Path], None]:
    """A record of the ledger, with its own SHA-256."""
    return lambda place: rewrite_record(place / key, data)


def rewrite_record(path: Path, data: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**data, "sha256": canonical_digest(data)}))


def linked(key: str) -> Callable[[Path], None]:
    """A file or folder that lies outside, with a link to it."""

    def change(place: Path) -> None:
        outside = place.parent / "outside"
        outside.mkdir(exist_ok=True)
        shutil.move(place / key, outside / "moved")
        (place / key).symlink_to(outside / "moved")

    return change


def piped(key: str) -> Callable[[Path], None]:
    def change(place: Path) -> None:
        (place / key).unlink(missing_ok=True)
        os.mkfifo(place / key)

    return change


def socketed(place: Path) -> None:
    (place / "PROVENANCE.json").unlink()
    here = Path.cwd()
    os.chdir(place)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("PROVENANCE.json")
    os.chdir(here)


def sparse(key: str, size: int) -> Callable[[Path], None]:
    return lambda place: os.truncate(place / key, size)


def table(change: Callable[[dict[str, Any]], None], names: Any = None, **manifest: Any) -> Callable[[Path], None]:
    """Another sample table, whose SHA-256 the manifest holds."""

    def rebuild(place: Path) -> None:
        columns: dict[str, Any] = {
            "key": pa.array([f"image-{i}.png" for i in range(SAMPLES)]),
            "label": pa.array(np.arange(SAMPLES) % 10),
            "byte_size": pa.array(np.full(SAMPLES, 100)),
        }
        change(columns)
        classes = [f"class {c}" for c in range(10)] if names is None else names
        made = pa.table(columns, metadata={"class_names": json.dumps(classes)})
        pq.write_table(made, place / "samples.parquet", compression="zstd", write_page_checksum=True)
        vouch(place, **manifest)

    return rebuild


def vouch(place: Path, **changed: Any) -> None:
    """Let the manifest name the sample table as it is."""
    digest = hashlib.sha256((place / "samples.parquet").read_bytes()).hexdigest()

    def change(document: dict[str, Any]) -> None:
        document["files"]["samples.parquet"] = digest
        document["identity"].update(changed)

    rewrite(place, "MANIFEST.json", change)


def many_rows(columns: dict[str, Any], rows: int = 5_000_000) -> None:
    columns["key"] = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), pa.array(["x"]))
    columns["label"] = columns["byte_size"] = pa.array(np.zeros(rows, np.int64))


def one_long_key(columns: dict[str, Any]) -> None:
    columns["key"] = pa.array(["a" * 32_000_000, *["b"] * (SAMPLES - 1)])


def same_long_key(columns: dict[str, Any]) -> None:
    indices = pa.array(np.zeros(SAMPLES, np.int32))
    columns["key"] = pa.DictionaryArray.from_arrays(indices, pa.array(["a" * 8_000_000]))


def strays(place: Path) -> None:
    for key in (".DS_Store", "teachers/._none.json", "teachers/x y.json", "ledger/none/.nfs0001", "Thumbs.db"):
        (place / key).write_text("{")


def garbage_table(place: Path) -> None:
    (place / "samples.parquet").write_bytes(b"PAR1" + bytes(2000) + b"PAR1")
    vouch(place)


def unread(place: Path) -> None:
    """Provenance that says where to look for images: nothing is opened by an inspection."""
    (place / "PROVENANCE.json").write_text(json.dumps({"data": "/dev/zero", "command": "rm -rf ~"}))


DEEP = '{"a":' * 100_000 + "1" + "}" * 100_000
GATE = {
    "decision": "passed",
    "model": "m",
    "weights_sha256": "c0" * 32,
    "head": "trained",
    "image_size": 32,
    "num_classes": 10,
    "measured": 1.0,
    "identity": "0",
    "images": 10,
    "split": "val",
    "accuracy": 0.5,
    "skill": 0.4,
    "skill_low": 0.3,
    "skill_high": 0.5,
    "ece": 0.1,
}
VERIFIED = ("--verify", "hash")
HOSTILE: dict[str, Hostile] = {
    "ten trillion samples": Hostile(manifest(num_samples=10**13), 5, "num_samples is 10000000000000"),
    "a trillion samples": Hostile(manifest(num_samples=10**12), 5, "more than samples.parquet can hold"),
    "samples as text": Hostile(manifest(num_samples="100"), 5, "num_samples is '100', not an integer"),
    "fewer than no samples": Hostile(manifest(num_samples=-1), 5, "num_samples is -1"),
    "samples that are true": Hostile(manifest(num_samples=True), 5, "num_samples is True"),
    "half a sample": Hostile(manifest(num_samples=99.5), 5, "num_samples is 99.5"),
    "a seed of 64 bits": Hostile(manifest(seed=2**63), 5, "seed is 9223372036854775808"),
    "no pixels": Hostile(manifest(image_size=0), 5, "image_size is 0"),
    "a billion classes": Hostile(manifest(num_classes=10**9), 5, "num_classes is 1000000000"),
    "escapes as a digest": Hostile(manifest(samples_digest=ESCAPES), 5, "samples_digest"),
    "a recipe that is a list": Hostile(manifest(recipe=[1, 2]), 5, "recipe is [1, 2]"),
    "another program's manifest field": Hostile(manifest(danger=ESCAPES), 4, "other fields"),
    "a number that is none": Hostile(replaced("MANIFEST.json", '"seed": 3', '"seed": NaN'), 5, "cannot be read"),
    "a number without end": Hostile(replaced("MANIFEST.json", '"seed": 3', '"seed": 1e999'), 5, "cannot be read"),
    "a number of 10,000 digits": Hostile(
        replaced("MANIFEST.json", '"seed": 3', '"seed": 1' + "0" * 9999), 5, "cannot be read"
    ),
    "a key twice": Hostile(replaced("MANIFEST.json", '"seed": 3', '"seed": 3, "seed": 3'), 5, "cannot be read"),
    "deep manifest": Hostile(content("MANIFEST.json", DEEP), 5, "cannot be read"),
    "manifest that is a list": Hostile(content("MANIFEST.json", "[1]"), 5, "cannot be read"),
    "manifest that is no UTF-8": Hostile(content("MANIFEST.json", b"\xff\xfe{\x00}\x00"), 5, "cannot be read"),
    "manifest of a terabyte": Hostile(sparse("MANIFEST.json", 2**40), 5, "of at most 4,000,000 bytes"),
    "manifest that is a pipe": Hostile(piped("MANIFEST.json"), 5, "regular file"),
    "manifest that is a link": Hostile(linked("MANIFEST.json"), 5, "is a link"),
    "manifest without digests": Hostile(
        lambda place: rewrite(place, "MANIFEST.json", lambda document: document.pop("files")), 5, "has no SHA-256 of"
    ),
    "format 99": Hostile(
        lambda place: rewrite(place, "MANIFEST.json", lambda document: document.update(deit_pipe=99)), 4, "format 99"
    ),
    "format as a list": Hostile(
        lambda place: rewrite(place, "MANIFEST.json", lambda document: document.update(deit_pipe=[ESCAPES])), 4
    ),
    "5 million rows in a few kilobytes": Hostile(table(many_rows, num_samples=5_000_000), 5, "more than"),
    "5 million rows for 100 samples": Hostile(table(many_rows), 5, "rows in", VERIFIED),
    "a key of 32 megabytes": Hostile(table(one_long_key), 5, "decode to more than", VERIFIED),
    "one long key in every row": Hostile(table(same_long_key), 5, "keys of 800,000,000 bytes", VERIFIED),
    "labels out of range": Hostile(
        table(lambda columns: columns.update(label=pa.array(np.full(SAMPLES, 10)))), 5, "out of range", VERIFIED
    ),
    "labels as text": Hostile(
        table(lambda columns: columns.update(label=pa.array(["1"] * SAMPLES))), 5, "column label of string", VERIFIED
    ),
    "no labels": Hostile(table(lambda columns: columns.pop("label") and None), 5, "label", VERIFIED),
    "absent labels": Hostile(
        table(lambda columns: columns.update(label=pa.nulls(SAMPLES, pa.int64()))), 5, "without a value", VERIFIED
    ),
    "classes that are numbers": Hostile(table(lambda columns: None, names=list(range(10))), 5, "class names", VERIFIED),
    "a table that is none": Hostile(garbage_table, 5, "samples.parquet", VERIFIED),
    "a table that is a link": Hostile(linked("samples.parquet"), 5, "is a link"),
    "escapes in class names": Hostile(table(lambda columns: None, names=[f"{ESCAPES}{c}" for c in range(10)]), 0),
    "a mean that is text": Hostile(teacher(mean=["0.5"] * 3), 5, "mean is"),
    "escapes in a teacher's model": Hostile(teacher(model=f"m{ESCAPES}"), 5, r"\x1b]0;owned"),
    "no slots in a block": Hostile(teacher(block_slots=0), 5, "block_slots is 0"),
    "targets that are none": Hostile(teacher(targets="topk:-1"), 5, "says what cannot be"),
    "no temperatures": Hostile(teacher(taus=[]), 5, "taus is []"),
    "a teacher that is a pipe": Hostile(piped(f"teachers/{TEACHER}.json"), 5, "regular file"),
    "a deep teacher": Hostile(content(f"teachers/{TEACHER}.json", DEEP), 5, "cannot be read"),
    "a teacher of another name": Hostile(teacher(name="other"), 5, "exchanged"),
    "what systems leave": Hostile(strays, 0, "ignored  .DS_Store"),
    "escapes in provenance": Hostile(
        content("PROVENANCE.json", json.dumps({"data": ESCAPES, "recipe": ESCAPES, ESCAPES: ["x\ny"] * 9})),
        0,
        r"\x1b]0",
    ),
    "deep provenance": Hostile(content("PROVENANCE.json", DEEP), 0),
    "provenance that is a pipe": Hostile(piped("PROVENANCE.json"), 5, "regular file"),
    "provenance that is a socket": Hostile(socketed, 5, "is no file"),
    "provenance of a command": Hostile(unread, 0),
    "a gate of texts": Hostile(
        signed(f"ledger/{TEACHER}/gate.json", {**GATE, "accuracy": "most"}), 5, "accuracy is", VERIFIED
    ),
    "escapes in a gate": Hostile(
        lambda place: rewrite_record(
            place / f"ledger/{TEACHER}/gate.json",
            {**GATE, "identity": read_teacher(place, TEACHER).digest, "decision": "warned", "reason": ESCAPES},
        ),
        0,
        r"\x1b]0;owned",
    ),
    "a gate of another teacher": Hostile(
        signed(f"ledger/{TEACHER}/gate.json", GATE), 5, "gate: is another teacher's", VERIFIED
    ),
}
BLOCK = f"targets.zarr/{TEACHER}/teacher_label/c/1/2"


def false_index(place: Path) -> None:
    """A file with the name that its bytes ask for, and nothing in it that can be read."""
    data = b"PAR1" + bytes(2000) + b"PAR1"
    name = f"0000-0001-{hashlib.sha256(data).hexdigest()}.parquet"
    (place / "ledger" / TEACHER / "sealed" / name).write_bytes(data)


def deep_header(place: Path) -> None:
    """A header whose SHA-256 fits, in a block that no index has."""
    shutil.rmtree(place / "ledger" / TEACHER / "sealed")
    text = b"[" * 60_000
    body = b"deit-pipe block\n" + len(text).to_bytes(4, "little") + text
    (place / BLOCK).write_bytes(body + hashlib.sha256(body).digest())


# What needs the layout of blocks and ledger: to be looked at again whenever that changes.
OF_THE_LAYOUT: dict[str, Hostile] = {
    "ten trillion epochs": Hostile(content(f"ledger/{TEACHER}/epochs/10000000000000", ""), 0),
    "epochs as text": Hostile(content(f"ledger/{TEACHER}/epochs/two", ""), 0),
    "an index that is none": Hostile(false_index, 0, "cannot be read"),
    "a block of which nothing is a header": Hostile(
        content(BLOCK, b"deit-pipe block\n\xff\xff\xff\xff"), 5, "", VERIFIED
    ),
    "a block that is a pipe": Hostile(piped(BLOCK), 5, "regular file", VERIFIED),
    "deep header of a block": Hostile(deep_header, 5, "cannot be read", VERIFIED),
    "runs of texts": Hostile(signed(f"ledger/{TEACHER}/runs/1.json", {"time": "now", "provenance": ["x"]}), 0),
    "escapes in a run": Hostile(
        signed(f"ledger/{TEACHER}/runs/1.json", {"time": 1.0, "world": 1, "provenance": {"weights": ESCAPES}}), 0
    ),
    "a ledger that is a link": Hostile(linked(f"ledger/{TEACHER}"), 5, "is a link"),
    "an array that is a link": Hostile(linked(f"targets.zarr/{TEACHER}/teacher_label"), 5, "is a link", VERIFIED),
    "a ledger file that is a pipe": Hostile(piped(f"ledger/{TEACHER}/gate.json"), 5, "regular file"),
}
