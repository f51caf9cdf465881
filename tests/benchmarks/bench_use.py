"""A student in use: `predict` on photographs with real ImageNet weights; `features` and neighbours on Fashion-MNIST.

    python tests/benchmarks/bench_use.py --weights efficientnet-lite0-57934424.pth --photos FOLDER [--write]
    python tests/benchmarks/bench_use.py --fashion /usr/share/datasets/fashion-mnist --work use [--write]

Weights and photographs as in make_logits.py. Fashion-MNIST: a part of the training images teaches a small CNN from
scratch, which teaches a tiny student; its vectors are then asked about the 10,000 test images. What is in the work
folder is not made again.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from make_logits import ENDINGS, load_network
from results import environment_line, write_section
from safetensors.torch import save_file

import deit_pipe

TEACHER, LITE = "resnet10t", "tf_efficientnet_lite0"


def on_photographs(weights: Path, photos: Path, most: int) -> str:
    """A row for each photograph: what the network says first, and how sure it is."""
    found = [path for path in sorted(photos.rglob("*")) if path.suffix.lower() in ENDINGS]
    found = [path for path in found if path.stat().st_size > 60_000][:most]
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / f"{LITE}.safetensors"
        save_file({name: value.contiguous() for name, value in load_network(weights).state_dict().items()}, file)
        started = time.perf_counter()
        options = deit_pipe.PredictOptions(run=str(file), images=tuple(map(str, found)), top_k=2, device="cpu")
        result = deit_pipe.predict(options)
        seconds = time.perf_counter() - started
    rows = ["| picture | first | second |", "| --- | --- | --- |"]
    for one in result.data["images"]:
        said = (f"{answer['class'].split(',')[0]} {answer['probability']:.0%}" for answer in one["class"])
        rows.append(f"| {Path(one['image']).name} | {' | '.join(said)} |")
    sure = [one["class"][0]["probability"] for one in result.data["images"]]
    return "\n".join(
        [
            f"{len(sure)} pictures, most of them photographs; {LITE} with its ImageNet weights, "
            f"{result.data['image_size']} px, in {seconds:.1f} s with loading; "
            f"mean probability of the first answer {np.mean(sure):.2f}.",
            "",
            *rows,
        ]
    )


def trained(data: str, work: Path, fraction: float, epochs: int) -> Path:
    """The run of a student, made where it is not there."""
    work.mkdir(parents=True, exist_ok=True)
    teacher, cache, run = (work / name for name in ("teacher", "cache", "student"))
    if not (teacher / "teacher.json").is_file():
        deit_pipe.train_teacher(
            deit_pipe.TrainTeacherOptions(
                teacher=TEACHER, init="scratch", data=data, out=str(teacher), epochs=epochs, fraction=fraction
            )
        )
    deit_pipe.cache_teacher(
        deit_pipe.CacheTeacherOptions(
            teacher=TEACHER,
            teacher_weights=str(teacher),
            data=data,
            cache=str(cache),
            epochs=epochs,
            fraction=fraction,
        )
    )
    deit_pipe.train_student(deit_pipe.TrainStudentOptions(cache=str(cache), out=str(run), epochs=3 * epochs))
    return run


def on_fashion(data: str, work: Path, fraction: float, epochs: int, k: int) -> str:
    """Heads, neighbours and probe of one student, and how fast its vectors are written."""
    run = trained(data, work, fraction, epochs)
    measured = deit_pipe.evaluate(
        deit_pipe.EvaluateOptions(run=str(run), split="test", knn=k, linear_probe=True, speed=True, device="cpu")
    ).data
    started = time.perf_counter()
    out = work / "vectors.parquet"
    written = deit_pipe.features(deit_pipe.FeaturesOptions(run=str(run), out=str(out), split="test", device="cpu")).data
    seconds = time.perf_counter() - started
    table = pq.read_table(out)
    vectors = np.stack(table["class_token"].to_numpy())
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = np.asarray(table["label"].to_pylist())
    near = vectors @ vectors.T
    np.fill_diagonal(near, -1)
    same = float((labels[near.argmax(axis=1)] == labels).mean())
    rows = ["| | class token | distillation token | mean of patches |", "| --- | --: | --: | --: |"]
    for name, words in (("knn", f"{k} nearest training images"), ("linear_probe", "linear probe")):
        found = measured[name]
        shown = (f"{100 * found[column]:.2f}" for column in ("class_token", "dist_token", "patch_mean"))
        rows.append(f"| {words} | {' | '.join(shown)} |")
    scores = {head: f"{100 * value['top1']:.2f}" for head, value in measured["scores"].items()}
    speed = measured["speed"]
    return "\n".join(
        [
            f"{fraction:.0%} of the training images, {epochs} epochs of {TEACHER} from scratch, {3 * epochs} of the "
            f"default student; top-1 in percent on {measured['images']:,} test images. Heads: class {scores['class']}, "
            f"distillation {scores['dist']}, fused {scores['fused']}.",
            "",
            *rows,
            "",
            f"The nearest other test image is of the same class in {same:.1%}. {written['rows']:,} vectors were "
            f"written in {seconds:.1f} s ({written['bytes'] / 1e6:.1f} MB); {speed['device']}: "
            f"{speed['latency_ms']:.2f} ms for one image, {speed['images_per_second']:,.0f} images/s "
            f"in batches of {speed['batch_size']}.",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--most", type=int, default=20, help="photographs")
    parser.add_argument("--fashion", metavar="FOLDER")
    parser.add_argument("--work", type=Path, default=Path("use"))
    parser.add_argument("--fraction", type=float, default=0.05)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--knn", type=int, default=20)
    parser.add_argument("--write", action="store_true", help="replace these sections of RESULTS.md")
    args = parser.parse_args()
    reports = {}
    if args.weights and args.photos:
        reports["predict on photographs"] = on_photographs(args.weights, args.photos, args.most)
    if args.fashion:
        reports["features on Fashion-MNIST"] = on_fashion(args.fashion, args.work, args.fraction, args.epochs, args.knn)
    for name, report in reports.items():
        print(f"## {name}\n\n{report}\n")
        if args.write:
            write_section(name, f"{environment_line()}\n\n{report}")


if __name__ == "__main__":
    main()
