"""Names of the files that hold a network and what is said of it. No torch."""

RUN_WEIGHTS = "model.safetensors"  # of a train-teacher folder
RUN_FACTS = "teacher.json"
STUDENT_WEIGHTS = "student.safetensors"  # of a train-student folder
STUDENT_FACTS = "student.json"
BEST_WEIGHTS = "best.safetensors"
RUN_CONFIG = "config.json"  # every option of a train-student run, and the command that began it
METRICS = "metrics.jsonl"
RESULT = "result.json"
SHOWN = "shown.json"  # of its last evaluation: accuracy by class, a few images
CHECKPOINTS = "checkpoints"
POINTER = "last.json"
