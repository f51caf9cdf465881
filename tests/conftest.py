"""Before anything imports torch: threads that wait by spinning would starve each other on a small, busy machine."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
