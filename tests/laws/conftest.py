"""How do these tests find raft_cluster.py?"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "paper"))
