"""Names that papers, torchvision and Hugging Face give to networks, as timm calls them."""

import re
from functools import cache
from pathlib import Path

import timm

REGNET = re.compile(r"regnet[-_ ]?([xy])[-_ ]?(\d+)(?:[._](\d))?[-_ ]?([mg])f", re.IGNORECASE)
VIT = re.compile(r"(vit|deit)[-_ ](tiny|small|base|large|huge|ti|[tsblh])(?:[-_/ ](\d+))?", re.IGNORECASE)
CONVNEXT = re.compile(r"convnext[-_ ]([tsblx]|xl)", re.IGNORECASE)
SIZES = {"t": "tiny", "ti": "tiny", "s": "small", "b": "base", "l": "large", "h": "huge", "x": "xlarge", "xl": "xlarge"}


def timms_name(name: str) -> str | None:
    """Timm's name of a network that others call by this one; None where timm knows the name, or nobody does.

    A path that is there, `runs/resnet50`, is meant as one.

    >>> timms_name("RegNetY-16GF"), timms_name("regnet_y_1_6gf"), timms_name("ResNet-50"), timms_name("resnet50")
    ('regnety_160', 'regnety_016', 'resnet50', None)
    """
    if not name or timm.is_model(name.partition(".")[0]) or ("/" in name and Path(name).exists()):
        return None
    plain = name.rpartition("/")[2] if name.count("/") == 1 and not VIT.fullmatch(name) else name
    found = next((one for one in (_regnet(plain), _vit(plain), _convnext(plain)) if one), None)
    return found if found and timm.is_model(found) else _squeezed_names().get(_squeezed(plain))


def _regnet(name: str) -> str | None:
    """`regnet_y_16gf`, `RegNetY-1.6GF`, `regnet_x_400mf`: timm counts in units of 100 MF."""
    found = REGNET.fullmatch(name)
    if found is None:
        return None
    kind, whole, tenth, unit = found[1].lower(), int(found[2]), int(found[3] or 0), found[4].lower()
    number = whole * 10 + tenth if unit == "g" else whole // 100
    model = f"regnet{kind}_{number:03d}"
    torchvisions = "_" in name and timm.is_model(f"{model}_tv")  # of another width than the paper's
    return f"{model}_tv" if torchvisions else model


def _vit(name: str) -> str | None:
    """`vit_b_16`, `ViT-B/16`, `DeiT-S`."""
    found = VIT.fullmatch(name)
    if found is None:
        return None
    size = found[2].lower()
    return f"{found[1].lower()}_{SIZES.get(size, size)}_patch{found[3] or 16}_224"


def _convnext(name: str) -> str | None:
    found = CONVNEXT.fullmatch(name)
    return found and f"convnext_{SIZES[found[1].lower()]}"


def _squeezed(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


@cache
def _squeezed_names() -> dict[str, str]:
    """Names without their marks -> timm's; those of which that makes two are left out."""
    found: dict[str, str] = {}
    twice = set()
    for name in timm.list_models():
        short = _squeezed(name)
        if short in found:
            twice.add(short)
        found[short] = name
    return {short: name for short, name in found.items() if short not in twice}
