"""The tests of this folder import its modules by name (ahead_of_time)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
