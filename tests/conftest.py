"""Before anything imports torch: threads that wait by spinning would starve each other on a small, busy machine.

Nor does a property fail because the machine had no time for it.
"""

import os

from hypothesis import settings

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
