"""Which replicated data types are there? Types that merge without coordination, useful alone. The public list."""

from aegis_replication.crdt.counters import BoundedCounter, GCounter, PNCounter, ResettableCounter
from aegis_replication.crdt.delta import Delta
from aegis_replication.crdt.flags import DWFlag, EWFlag
from aegis_replication.crdt.kernel import KINDS, CausalContext
from aegis_replication.crdt.maps import LWWMap, ORMap
from aegis_replication.crdt.registers import LWWRegister, MaxRegister, MinRegister, MVRegister
from aegis_replication.crdt.replica import Change, Read, Replica, Size
from aegis_replication.crdt.sequence import List, Text
from aegis_replication.crdt.sets import Bag, GSet, ORSet, RWSet, TwoPSet

__all__ = [
    # counters
    "GCounter",
    "PNCounter",
    "ResettableCounter",
    "BoundedCounter",
    # registers and flags
    "LWWRegister",
    "MVRegister",
    "MaxRegister",
    "MinRegister",
    "EWFlag",
    "DWFlag",
    # sets
    "GSet",
    "TwoPSet",
    "ORSet",
    "RWSet",
    "Bag",
    # maps
    "LWWMap",
    "ORMap",
    # sequences
    "List",
    "Text",
    # what all of them share
    "Replica",
    "Delta",
    "CausalContext",
    "Read",
    "Change",
    "Size",
    "KINDS",
]
