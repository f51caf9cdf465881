"""A network that can teach, with what is known of it; and timm's models built for a size."""

from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor, nn

from deit_pipe.stages.console.errors import UsageProblem
from deit_pipe.stages.networks.weights import TeacherRun

USUAL_SIZE = 224

Triple = tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class TeacherNetwork:
    """A network and what is known of it.

    Attributes:
        model: as it was built, on the CPU.
        tag: what is recorded: timm's full tag, `run, custom`, or `package.module:function`.
        head: `pretrained`, `trained`, `fitted` or `random`.
        source: where the weights came from.
        weights_sha256: digest of the weights under the network's own names, before positions were resized.
        mean: normalisation that its weights' own description says, else the tag's; `std` likewise. None: unknown.
        stated: whether its own description says it, or the weights are the tag's.
        num_classes: C of its answers.
        class_names: in the order of its answers, where known; never of ImageNet, whose names differ from copy to copy.
        trained_size: side of the images it was trained on, where known.
        facts: of a `train-teacher` folder.
        whole: whether only its `forward` is known to give logits.
        lines: what is to be said.
    """

    model: nn.Module
    tag: str
    head: str
    source: str
    weights_sha256: str
    mean: Triple | None
    std: Triple | None
    stated: bool = True
    num_classes: int
    class_names: tuple[str, ...] | None = None
    trained_size: int | None = None
    facts: TeacherRun | None = None
    whole: bool = False
    lines: tuple[str, ...] = ()


def sized_model(tag: str, size: int | None, **settings: Any) -> nn.Module:
    """A timm model with fresh weights, made for images of a size where it has only one.

    Raises:
        UsageProblem: it cannot be made for it.
    """
    config = timm.get_pretrained_cfg(tag)
    if size is not None and (config is None or size != config.input_size[1]):
        try:
            with torch.random.fork_rng(devices=[]):  # a refusal must not move the weights of the next try
                model = timm.create_model(tag, pretrained=False, img_size=size, **settings)
                drawn = torch.get_rng_state()
            torch.set_rng_state(drawn)
        except TypeError:  # convolutional: it takes any
            pass
        except (AssertionError, ValueError, RuntimeError) as error:
            raise wrong_size(tag, size, error) from error
        else:
            patch = getattr(getattr(model, "patch_embed", None), "patch_size", 1)
            patch = patch[0] if isinstance(patch, tuple) else patch
            if isinstance(patch, int) and size % patch:  # timm would leave out the rest of the image without a word
                raise wrong_size(tag, size, f"its patches are of {patch} px")
            assert isinstance(model, nn.Module)
            return model
    model = timm.create_model(tag, pretrained=False, **settings)
    assert isinstance(model, nn.Module)
    return model


def wrong_size(name: str, size: int, why: object, own: int | None = None) -> UsageProblem:
    """The refusal of a size; `own`: one that it does take, where another than its tag's is known."""
    config = timm.get_pretrained_cfg(name) if own is None and ":" not in name else None
    own = own or (USUAL_SIZE if config is None else int(config.input_size[1]))
    return UsageProblem(
        f"teacher {name} cannot take views of {size} px",
        details=[(str(why).strip() or type(why).__name__).splitlines()[0][:160]],
        cure=f"let it see them resized with --teacher-img-size, such as {own}; or give another --img-size",
    )


def probe_pixels(size: int) -> Tensor:
    """Two images as a network may be given them, the same every time: float32 [2, 3, size, size]."""
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def same_answers(one: Tensor, other: Tensor) -> bool:
    """Whether logits [B, C] are the same but for rounding; what is not finite is for the gate."""
    near = 1e-3 * float(other.abs().max())
    return one.shape == other.shape and not float((one - other).abs().max()) > near
