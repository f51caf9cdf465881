"""Versions of everything that could change a pixel: recorded with a cache, shown when a view differs."""

from __future__ import annotations

import platform
import zlib

import numpy as np
import PIL
from PIL import features

from deit_pipe.pipeline.decode import simplejpeg_version
from deit_pipe.pipeline.native.engine import chosen_engine
from deit_pipe.pipeline.recipe import VIEWS_VERSION


def library_versions() -> dict[str, str]:
    """Return name -> version of the libraries behind the views; "absent" for missing optional ones.

    "engine" is what renders them here: "native avx2", "native sse2" or "pillow". All give the same bytes.
    """
    return {
        "views": str(VIEWS_VERSION),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "engine": chosen_engine().name,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "libjpeg_turbo": features.version("libjpeg_turbo") or "absent",
        "zlib": features.version("zlib") or zlib.ZLIB_RUNTIME_VERSION,
        "libtiff": features.version("libtiff") or "absent",
        "webp": features.version("webp") or "absent",
        "simplejpeg": simplejpeg_version() or "absent",
    }
