"""The four target formats: float32 logits [B, C] -> arrays to store -> targets to train on. Pure numpy.

    dense     logits float16 [B, C]                                       serves every temperature
    dense8    logit_level uint8 [B, C], logit_step float16 [B]            serves every temperature, in half the bytes
    topk:K    topk_class [B, K], topk_logp float16 [B, K] = z - lse(z)    serves tau 1 and the declared taus
    none      nothing but the label                                       serves none

Every format has `teacher_label`, the argmax of the float32 logits (first of equals): rounding to float16
ties the top two of about 1 row in 670, so the label cannot be had from what is stored. Training with the
teacher in the loop passes the same encode and decode, which makes it equal to training from a cache, bit for
bit.

dense8: z - max z is stored in steps of its row's range / 160, so a logit is off by at most half a step, for a row whose
logits span 16 by 0.05. Level 160 is the largest logit. No loss sees what is dropped, the height of a row: softmax
and centred logits are the same for z and z - max z.

Legend: B rows, C classes, K kept classes, T temperatures.
"""

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from deit_pipe.store.errors import FormatInvalid, TargetsInvalid

Kind = Literal["dense", "dense8", "topk", "none"]
Arrays = dict[str, NDArray[Any]]
Values = TypeVar("Values", bound=Sized)
Others = TypeVar("Others", bound=Sized)

FLOAT16_MAX = 65504.0
WHOLE_KINDS: tuple[Literal["dense", "dense8", "none"], ...] = ("dense", "dense8", "none")
# Of dense8: the largest logit of a row has this level, the smallest 0. 255 would fit into a byte too; but the bytes are
# compressed, and its last half bit is noise: 10 % more bytes, more than half of dense's, for gradients whose cosine to
# those of all logits is about 0.9999 already.
LEVELS = 160
_SIGN_EXPONENT_MANTISSA = np.uint32(0x8FFFE000).view(np.int32)


@dataclass(frozen=True)
class TargetFormat:
    """What is kept of a teacher's logits.

    `taus` are the temperatures that top-k targets serve: 1 first, then the declared others, ascending. Dense
    targets serve any temperature, labels serve none; both keep `taus` only to say what was asked for.
    """

    kind: Kind
    num_classes: int
    k: int = 0
    taus: tuple[float, ...] = (1.0,)

    @classmethod
    def parse(cls, text: str, taus: Sequence[float], num_classes: int) -> "TargetFormat":
        """Read `dense`, `dense8`, `topk:K` or `none`.

        >>> kept = TargetFormat.parse("topk:10", [3.0], 1000)
        >>> kept.k, kept.taus, kept.text
        (10, (1.0, 3.0), 'topk:10')

        Raises:
            FormatInvalid: unknown text, K outside 1..num_classes, or a temperature that is not positive and
            finite.
        """
        if num_classes < 1:
            raise FormatInvalid(f"targets need at least one class, got {num_classes}", cure="check the teacher")
        for tau in taus:
            if not (np.isfinite(tau) and tau > 0):
                raise FormatInvalid(
                    f"temperature {tau} is not a positive number", cure="give for example --logits topk:10@1,3"
                )
        served = (1.0, *sorted({float(tau) for tau in taus} - {1.0}))
        for whole in WHOLE_KINDS:
            if text == whole:
                return cls(whole, num_classes, 0, served)
        head, _, tail = text.partition(":")
        if head != "topk" or not tail.isdecimal() or not 1 <= int(tail) <= num_classes:
            raise FormatInvalid(
                f"target format {text!r} is not usable with {num_classes} classes",
                cure=f"give --logits dense, dense8, topk:K with K from 1 to {num_classes}, or none",
            )
        return cls("topk", num_classes, int(tail), served)

    @property
    def text(self) -> str:
        """The way it is typed: `dense`, `dense8`, `topk:10`, `none`."""
        return f"topk:{self.k}" if self.kind == "topk" else self.kind

    @property
    def all_logits(self) -> bool:
        """Whether every class has a logit, up to a constant of its row."""
        return self.kind in ("dense", "dense8")

    def serves(self, tau: float) -> bool:
        """Whether a soft loss at this temperature can be computed without guessing."""
        return self.all_logits or (self.kind == "topk" and float(tau) in self.taus)

    @property
    def other_taus(self) -> tuple[float, ...]:
        """The temperatures that have a stored column: for tau 1 it would be all zeros."""
        return self.taus[1:] if self.kind == "topk" else ()

    @property
    def class_dtype(self) -> np.dtype[Any]:
        """int16 as long as every class fits; signed, so that -1 can mean "nothing here"."""
        return np.dtype(np.int16 if self.num_classes <= 32767 else np.int32)


@dataclass(frozen=True)
class TargetsOf(Generic[Values]):
    """What a cache says about a batch of B views: NumPy arrays as they are read, tensors where they are trained on.

    Attributes:
        kind, num_classes, taus: of the format.
        teacher_label: int64 [B], argmax of the teacher's float32 logits.
        fingerprint: uint32 [B] of the views that were answered, or None.
        logits: float32 [B, C] (dense) or None.
        topk_class: int64 [B, K], most probable first (topk) or None.
        topk_logp: float32 [B, K], log-probabilities at temperature 1, or None.
        lse_tau: float32 [B, T], logsumexp((z - lse(z)) / tau) for each of `taus` (0 for tau 1), so that
            log p_tau(k) = topk_logp / tau - lse_tau; what 1 - sum p_tau leaves is the exact mass of all other
            classes. None unless topk.
    """

    kind: Kind
    num_classes: int
    taus: tuple[float, ...]
    teacher_label: Values
    fingerprint: Values | None = None
    logits: Values | None = None
    topk_class: Values | None = None
    topk_logp: Values | None = None
    lse_tau: Values | None = None

    def __len__(self) -> int:
        return len(self.teacher_label)

    def serves(self, tau: float) -> bool:
        """Whether a soft loss at this temperature can be computed without guessing."""
        return TargetFormat(self.kind, self.num_classes, taus=self.taus).serves(tau)

    def each(self, change: Callable[[Values], Others]) -> "TargetsOf[Others]":
        """The same targets with every array changed, such as moved to a device."""

        def changed(values: Values | None) -> Others | None:
            return None if values is None else change(values)

        return TargetsOf(
            kind=self.kind,
            num_classes=self.num_classes,
            taus=self.taus,
            teacher_label=change(self.teacher_label),
            fingerprint=changed(self.fingerprint),
            logits=changed(self.logits),
            topk_class=changed(self.topk_class),
            topk_logp=changed(self.topk_logp),
            lse_tau=changed(self.lse_tau),
        )


Targets = TargetsOf[NDArray[Any]]


def encode(logits: NDArray[np.float32], fmt: TargetFormat) -> Arrays:
    """Turn float32 logits [B, C] into the arrays of the format, `teacher_label` first.

    Raises:
        TargetsInvalid: wrong shape or dtype, a value that is not finite, or one that float16 cannot hold.
    """
    check_logits(logits, fmt)
    label = logits.argmax(axis=1)
    arrays: Arrays = {"teacher_label": label.astype(fmt.class_dtype)}
    if fmt.kind == "dense":
        arrays["logits"] = _to_float16(logits, "a logit")
    elif fmt.kind == "dense8":
        arrays["logit_level"], arrays["logit_step"] = to_levels(logits)
    elif fmt.kind == "topk":
        chosen = top_classes(logits, fmt.k)
        wide = logits.astype(np.float64)
        logp = wide - _logsumexp(wide)[:, None]
        arrays["topk_class"] = chosen.astype(fmt.class_dtype)
        arrays["topk_logp"] = _to_float16(np.take_along_axis(logp, chosen, axis=1), "a log-probability")
        if fmt.other_taus:
            columns = [_logsumexp(logp / tau) for tau in fmt.other_taus]
            arrays["lse_tau"] = _to_float16(np.stack(columns, axis=1), "a normaliser")
    return arrays


def decode(arrays: Mapping[str, NDArray[Any]], fmt: TargetFormat) -> Targets:
    """Turn stored arrays [B, ...] back into targets; `fingerprint` is taken along where it is there."""
    fingerprint = arrays.get("fingerprint")
    label = arrays["teacher_label"].astype(np.int64)
    common: dict[str, Any] = {
        "kind": fmt.kind,
        "num_classes": fmt.num_classes,
        "taus": fmt.taus,
        "teacher_label": label,
        "fingerprint": None if fingerprint is None else fingerprint.astype(np.uint32, copy=True),
    }
    if fmt.kind == "dense":
        return Targets(**common, logits=to_float32(arrays["logits"]))
    if fmt.kind == "dense8":
        return Targets(**common, logits=from_levels(arrays["logit_level"], arrays["logit_step"]))
    if fmt.kind == "topk":
        lse_tau = np.zeros((len(label), len(fmt.taus)), dtype=np.float32)
        if fmt.other_taus:
            lse_tau[:, 1:] = arrays["lse_tau"]
        return Targets(
            **common,
            topk_class=arrays["topk_class"].astype(np.int64),
            topk_logp=to_float32(arrays["topk_logp"]),
            lse_tau=lse_tau,
        )
    return Targets(**common)


def to_levels(logits: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    """Round finite logits [B, C] to 161 levels; returns levels uint8 [B, C] and the step of each row, float16 [B].

    The step is rounded up to a float16, so that the smallest logit has a level; it is 0 where all are equal.

    Raises:
        TargetsInvalid: a row spans more than float16 can hold.
    """
    below = logits.max(axis=1, keepdims=True).astype(np.float64) - logits
    exact = below.max(axis=1) / LEVELS
    step = _to_float16(exact, "a step of dense8")
    step = np.where(step < exact, np.nextafter(step, np.float16(np.inf)), step)
    if not np.isfinite(step).all():
        raise TargetsInvalid(
            f"a row of logits spans {below.max():.6g}, too much for dense8",
            details=["nothing of this block was written"],
            cure="check the teacher's weights and normalisation",
        )
    count = np.rint(below / np.where(step > 0, step, 1).astype(np.float64)[:, None])
    return (LEVELS - count).astype(np.uint8), step


def from_levels(level: NDArray[np.uint8], step: NDArray[np.float16]) -> NDArray[np.float32]:
    """Return logits minus the largest of their row, float32 [B, C], from `to_levels`."""
    values = level.astype(np.float32)
    values -= np.float32(LEVELS)
    values *= step.astype(np.float32)[:, None]
    return values


def to_float32(half: NDArray[np.float16]) -> NDArray[np.float32]:
    """Convert finite float16 exactly; seven times as fast as `astype`, which numpy does value by value.

    A float16 shifted to where float32 has its exponent and mantissa is too small by 2^112, the difference of the
    exponents' biases; the product restores it, subnormals included.
    """
    bits = half.view(np.int16).astype(np.int32)  # sign-extended: after the shift the sign is in place
    bits <<= 13
    bits &= _SIGN_EXPONENT_MANTISSA
    values = bits.view(np.float32)
    values *= np.float32(2.0**112)
    return values


def check_logits(logits: NDArray[np.float32], fmt: TargetFormat) -> None:
    """Refuse logits that are not float32 [B, C] or not finite, naming the first bad row."""
    if logits.ndim != 2 or logits.shape[1] != fmt.num_classes or logits.dtype != np.float32:
        raise TargetsInvalid(
            "logits do not fit the cache",
            expected=f"float32 [B, {fmt.num_classes}]",
            got=f"{logits.dtype} {list(logits.shape)}",
            cure="run the teacher's head in float32 and check its number of classes",
        )
    finite = np.isfinite(logits)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise TargetsInvalid(
            f"the teacher gave {logits[row, column]} (row {row}, class {column}, "
            f"{int((~finite).any(axis=1).sum())} of {len(logits)} rows)",
            details=["nothing of this block was written"],
            cure="check the teacher's weights and normalisation; with --precision bf16 try --precision fp32",
        )


def top_classes(logits: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the K classes [B, K] with the largest logits, descending, lower class first among equals."""
    num_classes = logits.shape[1]
    if k == num_classes:
        return np.argsort(-logits, axis=1, kind="stable")
    chosen = np.argpartition(-logits, k - 1, axis=1)[:, :k]
    chosen.sort(axis=1)
    values = np.take_along_axis(logits, chosen, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    chosen = np.take_along_axis(chosen, order, axis=1)
    # argpartition picks any of the classes that tie at the border; those rows get the full, stable sort
    border = np.take_along_axis(logits, chosen[:, -1:], axis=1)
    tied = (logits >= border).sum(axis=1) > k
    if tied.any():
        chosen[tied] = np.argsort(-logits[tied], axis=1, kind="stable")[:, :k]
    return chosen


def _logsumexp(values: NDArray[np.float64]) -> NDArray[np.float64]:
    top = values.max(axis=1)
    total: NDArray[np.float64] = top + np.log(np.exp(values - top[:, None]).sum(axis=1))
    return total


def _to_float16(values: NDArray[Any], what: str) -> NDArray[np.float16]:
    if values.size and (largest := float(np.abs(values).max())) > FLOAT16_MAX:
        raise TargetsInvalid(
            f"{what} of {largest:.6g} does not fit float16 (largest {FLOAT16_MAX:.0f})",
            details=["nothing of this block was written"],
            cure="check the teacher's weights and normalisation",
        )
    return values.astype(np.float16)
