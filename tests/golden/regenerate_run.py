"""Write tests/golden/run_vN: a student's run over the golden cache, stopped by SIGTERM after step 10 of 44.

    PYTHONPATH=tests python tests/golden/regenerate_run.py

N is the format version of its cache. To be run once, after regenerate_cache.py; a folder that is there stays as it is.
"""

import os
import signal
from typing import Any

from golden.regenerate_cache import CACHE

from deit_pipe.stages import train_student
from deit_pipe.stages.console.errors import Terminated
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.stages.training import trainer

RUN = CACHE.with_name(CACHE.name.replace("cache", "run"))
SETTINGS: dict[str, Any] = {
    "teacher": "dense",
    "loss": "hard",
    "epochs": 2,
    "batch_size": 64,
    "student": "custom:8x1x1",
    "workers": 0,
    "device": "cpu",
    "log_steps": 1,
    "ema": 0.9,
}
STOPPED, STEPS = 10, 44


def main() -> None:
    if RUN.exists():
        raise SystemExit(f"{RUN} is there and stays as it is\n  only a new format version gets a new one")
    os.chdir(CACHE.parent)
    step = trainer.Trainer.step
    done = 0

    def stopping(self: trainer.Trainer, *args: Any) -> Any:
        nonlocal done
        times = step(self, *args)
        done += 1
        if done == STOPPED:
            signal.raise_signal(signal.SIGTERM)
        return times

    trainer.Trainer.step = stopping  # type: ignore[method-assign]
    try:
        train_student.run(TrainStudentOptions(cache=CACHE.name, out=RUN.name, **SETTINGS))
    except Terminated as stopped:
        print(stopped)
    (RUN / ".lock").unlink()


if __name__ == "__main__":
    main()
