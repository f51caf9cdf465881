"""Write pipeline/sources/digits.parquet from scikit-learn's copy of the UCI digits.

python tests/pipeline/make_digits.py pipeline/sources/digits.parquet

Needs scikit-learn, which nothing else here needs.
"""

import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def main(path: str) -> None:
    digits = load_digits()
    pixels = ((digits.images.astype(np.int64) * 255 + 8) // 16).astype(np.uint8).reshape(-1, 64)
    rows = np.arange(len(digits.target))
    _, validation = train_test_split(rows, test_size=360, random_state=0, stratify=digits.target)
    split = np.full(len(rows), "train", dtype=object)
    split[validation] = "val"
    table = pa.table(
        {
            "row": pa.array(rows, pa.int16()),
            "label": pa.array(digits.target, pa.int8()),
            "split": pa.array(split.tolist(), pa.string()),
            "pixels": pa.array([row.tobytes() for row in pixels], pa.binary(64)),
        }
    )
    about = {
        "title": "Optical Recognition of Handwritten Digits",
        "authors": "E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998",
        "licence": "CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/)",
        "changes": "8 x 8 images; grey levels 0..16 scaled to 0..255; split into train and val",
    }
    parquet.write_table(table.replace_schema_metadata(about), path, compression="zstd")
    print(path, {name: int((split == name).sum()) for name in ("train", "val")})


if __name__ == "__main__":
    main(sys.argv[1])
