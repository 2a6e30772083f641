"""How does a program without an event loop use a cluster? The same calls, blocking, from as many threads as you like.

python examples/sync_client.py                          a cluster of its own, in memory
python examples/sync_client.py aegis://127.0.0.1:7480   yours
"""

import sys
from concurrent.futures import ThreadPoolExecutor

from aegis_replication import OutcomeUnknown, sync


def work(db: sync.Client) -> None:
    """Eight threads count together; a call that can't know its outcome says so instead of guessing."""
    db.delete("jobs")

    def count(_: int) -> None:
        try:
            db.increment("jobs", timeout=5)
        except OutcomeUnknown:
            print("this one may or may not have counted")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(count, range(100)))

    jobs = db.get("jobs")
    print("jobs:", jobs.value.decode() if jobs else None)


if len(sys.argv) > 1:
    with sync.connect(sys.argv[1]) as db:
        work(db)
else:
    with sync.LocalCluster(3) as cluster:
        work(cluster.client())
