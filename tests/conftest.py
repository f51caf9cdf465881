"""Before anything imports torch: threads that wait by spinning would starve each other on a small, busy machine.

Nor does a property fail because the machine had no time for it.
"""

import atexit
import os
import shutil
import tempfile

from hypothesis import settings

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# What programs keep for themselves stays out of the home of whoever runs the tests, and out of the next run.
_OWN = tempfile.mkdtemp(prefix="deit-pipe-tests-")
atexit.register(shutil.rmtree, _OWN, ignore_errors=True)
os.environ["XDG_CACHE_HOME"] = _OWN
