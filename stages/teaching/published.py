"""What is known of a teacher's accuracy before it is asked.

The numbers are timm's own evaluation on ImageNet-1k's 50,000 validation images (results/results-imagenet.csv of timm's
repository, August 2026), at the size the weights were trained on.
"""

from typing import NamedTuple

from deit_pipe.stages.networks.teacher import Teacher

IMAGENET_CLASSES = 1000
# first and last class: folders of synsets, and the words of the usual Parquet copies
IMAGENET_ENDS = (("n01440764", "n15075141"), ("tench", "toilet tissue"))

IMAGENET_TOP1 = {
    "convnext_base.fb_in22k_ft_in1k": 0.858,
    "convnext_small.in12k_ft_in1k": 0.852,
    "convnext_tiny.fb_in1k": 0.821,
    "convnext_tiny.in12k_ft_in1k": 0.842,
    "densenet121.ra_in1k": 0.756,
    "efficientnet_b0.ra_in1k": 0.777,
    "mobilenetv3_large_100.ra_in1k": 0.758,
    "regnety_032.ra_in1k": 0.819,
    "regnety_040.ra3_in1k": 0.823,
    "regnety_080.ra3_in1k": 0.832,
    "regnety_160.deit_in1k": 0.830,
    "regnety_160.lion_in12k_ft_in1k": 0.856,
    "regnety_160.pycls_in1k": 0.803,
    "regnety_160.sw_in12k_ft_in1k": 0.856,
    "regnety_160.tv2_in1k": 0.826,
    "resnet101.a1h_in1k": 0.820,
    "resnet10t.c3_in1k": 0.667,
    "resnet152.a1h_in1k": 0.828,
    "resnet18.a1_in1k": 0.715,
    "resnet18.tv_in1k": 0.698,
    "resnet34.a1_in1k": 0.764,
    "resnet50.a1_in1k": 0.804,
    "resnet50.tv_in1k": 0.762,
}


class Known(NamedTuple):
    """An accuracy, 0..1, and where it is written."""

    accuracy: float
    source: str


def known_accuracy(teacher: Teacher, class_names: tuple[str, ...]) -> Known | None:
    """What its folder says, else what is published of its tag where the data are ImageNet's classes."""
    if teacher.val_top1 is not None:
        return Known(teacher.val_top1, f"teacher.json in {teacher.source}")
    if teacher.head == "pretrained" and teacher.tag in IMAGENET_TOP1 and is_imagenet(class_names):
        return Known(IMAGENET_TOP1[teacher.tag], f"published for {teacher.tag}")
    return None


def is_imagenet(class_names: tuple[str, ...]) -> bool:
    """Whether these are the 1,000 classes of ImageNet-1k in their usual order, by the first and the last."""
    return len(class_names) == IMAGENET_CLASSES and any(
        class_names[0].startswith(first) and class_names[-1].startswith(last) for first, last in IMAGENET_ENDS
    )
