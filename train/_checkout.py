"""Lets the scripts beside it run where the package is not installed: in a fresh clone with requirements.txt alone.

`python train/ldm.py` and `accelerate launch train/ldm.py` put this folder on the path, not the one above it.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

if find_spec("ldm_explorer") is None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
