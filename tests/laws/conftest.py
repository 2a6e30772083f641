"""How do these tests find raft_cluster.py, and the helpers beside them?"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "paper"))
sys.path.insert(0, str(Path(__file__).parent))
