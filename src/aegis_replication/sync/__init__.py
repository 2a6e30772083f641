"""The same API without `await`, for any number of threads: everything runs on one event loop in a thread of its own.

from aegis_replication import sync

with sync.connect("aegis://n1:7480,n2:7480") as db:
    db.put("greeting", "hello")
"""

from aegis_replication.sync.client import Client as Client
from aegis_replication.sync.client import WriteBatch as WriteBatch
from aegis_replication.sync.client import connect as connect
from aegis_replication.sync.local import Database as Database
from aegis_replication.sync.local import LocalCluster as LocalCluster
from aegis_replication.sync.local import open as open
from aegis_replication.sync.machines import MachineProxy as MachineProxy
