"""Do placements keep their members, refuse clearly what they can't do, and answer alike everywhere?"""

import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from aegis_replication.errors import (
    AegisError,
    DuplicateNode,
    EmptyPlacement,
    InvalidCount,
    InvalidKey,
    InvalidNode,
    InvalidWeight,
    NotSupported,
    UnknownHashFunction,
    UnknownNode,
)
from aegis_replication.hash import (
    ALGORITHMS,
    HASH_FUNCTIONS,
    AnchorHash,
    BoundedLoad,
    HashFunction,
    HashRing,
    JumpHash,
    KetamaRing,
    MaglevHash,
    MultiProbeHash,
    Placement,
    RendezvousHash,
    VirtualNode,
)
from aegis_replication.hash.maglev import TABLE_SIZE_MAX

EVERY = sorted(ALGORITHMS)
KEYS = [f"user:{index}" for index in range(2_000)]


def placement(algorithm: str, *nodes: Any) -> Any:
    made: Any = ALGORITHMS[algorithm]
    return made(nodes=nodes or ("n1", "n2", "n3"))


# --- membership -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", EVERY)
def test_every_algorithm_speaks_the_protocol(algorithm: str) -> None:
    made: Placement = placement(algorithm)

    assert made.algorithm == algorithm
    assert [node.id for node in made.nodes] == ["n1", "n2", "n3"]
    assert made.get_node("user:1") in {"n1", "n2", "n3"}
    assert made.get_node(b"user:1") == made.get_node("user:1")


@pytest.mark.parametrize("algorithm", EVERY)
def test_empty_placement_says_so(algorithm: str) -> None:
    empty = ALGORITHMS[algorithm]()  # type: ignore[call-arg]

    assert empty.is_empty
    assert len(empty) == empty.node_count == 0
    for use in (
        lambda: empty.get_node("k"),
        lambda: empty.get_nodes("k", 2),
        lambda: empty.get_many(["k"]),
        lambda: empty.stats(),
        lambda: empty.explain("k"),
        lambda: empty.diff(placement(algorithm)),
        lambda: placement(algorithm).diff(empty),
    ):
        with pytest.raises(EmptyPlacement, match="add_node"):
            use()


@pytest.mark.parametrize("algorithm", EVERY)
def test_duplicate_and_unknown_nodes_are_refused_and_change_nothing(algorithm: str) -> None:
    made = placement(algorithm)
    before = made.to_bytes()

    with pytest.raises(DuplicateNode, match="'n1'"):
        made.add_node("n1")
    with pytest.raises(DuplicateNode):
        made.add_nodes(["n4", "n5", "n4"])
    with pytest.raises(UnknownNode, match=r"'n9'.*n1, n2, n3"):
        made.remove_node("n9")
    with pytest.raises(UnknownNode):
        made.set_weight("n9", 1.0)

    assert made.to_bytes() == before


@pytest.mark.parametrize("algorithm", EVERY)
def test_add_and_remove_may_be_repeated(algorithm: str) -> None:
    made = placement(algorithm)
    made.add("n4", labels={"zone": "a"})
    made.add("n4", labels={"zone": "a"})

    assert made.node_count == 4
    with pytest.raises(DuplicateNode):
        made.add("n4", labels={"zone": "b"})

    made.remove("n4")
    made.remove("n4")

    assert made.node_count == 3
    assert "n4" not in made


@pytest.mark.parametrize("algorithm", EVERY)
@pytest.mark.parametrize("weight", [0, 0.0, -1, float("nan"), float("inf"), "2", None, True])
def test_weights_that_are_none_are_refused(algorithm: str, weight: Any) -> None:
    made = placement(algorithm)

    with pytest.raises(InvalidWeight, match="n4"):
        made.add_node("n4", weight=weight)

    assert made.node_count == 3


@pytest.mark.parametrize("algorithm", ["jump", "anchor", "multi_probe"])
def test_algorithms_without_weights_refuse_them_and_name_another(algorithm: str) -> None:
    made = placement(algorithm)

    with pytest.raises(NotSupported, match="RendezvousHash"):
        made.add_node("n4", weight=2.0)
    with pytest.raises(NotSupported, match="HashRing"):
        made.set_weight("n1", 2.0)


def test_weights_too_small_to_be_honoured_are_refused() -> None:
    with pytest.raises(InvalidWeight, match="150 vnodes"):
        HashRing(nodes=["n1"]).add_node("n2", weight=0.001)
    with pytest.raises(InvalidWeight, match="65,536"):
        HashRing(nodes=["n1"]).add_node("n2", weight=1e6)
    with pytest.raises(InvalidWeight, match="slots"):
        MaglevHash(nodes=["n1"]).add_node("n2", weight=1e-9)


@pytest.mark.parametrize("id", ["", 7, None, b"n1", "x" * 256, "\ud800"])
def test_names_must_be_usable_text(id: Any) -> None:
    with pytest.raises(InvalidNode):
        HashRing().add_node(id)
    with pytest.raises(InvalidNode):
        HashRing().add_node("n1", labels={"zone": id})


@pytest.mark.parametrize("key", [None, 7, 1.5, ("a",), ["a"]])
@pytest.mark.parametrize("algorithm", EVERY)
def test_keys_must_be_text_or_bytes(algorithm: str, key: Any) -> None:
    made = placement(algorithm)

    for use in (made.get_node, made.key_position, made.explain, lambda key: made.get_nodes(key, 2)):
        with pytest.raises(InvalidKey, match=type(key).__name__):
            use(key)
    for many in (["a", key], [b"a", key], [key, "a"], ["a"] * 200 + [key]):
        with pytest.raises(InvalidKey):
            made.get_many(many)


def test_keys_may_be_any_bytes_but_only_real_text() -> None:
    ring = placement("ring")

    assert ring.get_node(bytearray(b"k")) == ring.get_node(memoryview(b"k")) == ring.get_node("k")
    for use in (ring.get_node, lambda key: ring.get_many(["a", key]), JumpHash(3).get_node):
        with pytest.raises(InvalidKey, match="Unicode"):
            use("\ud800")


@pytest.mark.parametrize(
    "make",
    [
        lambda: HashRing(0),
        lambda: HashRing(-1),
        lambda: HashRing(10**9),
        lambda: HashRing(True),
        lambda: HashRing(1.5),  # type: ignore[arg-type]
        lambda: JumpHash(0),
        lambda: JumpHash(-3),
        lambda: JumpHash.hash("k", 0),
        lambda: JumpHash.hash("k", -1),
        lambda: JumpHash.hash(-1, 3),
        lambda: JumpHash.hash(1 << 64, 3),
        lambda: JumpHash(3).bucket_u64(-1),
        lambda: JumpHash(3).bucket_u64(True),
        lambda: MaglevHash(100),
        lambda: MaglevHash(0),
        lambda: MaglevHash(TABLE_SIZE_MAX + 1),
        lambda: MaglevHash(101, nodes=["n1", "n2"]),
        lambda: AnchorHash(0),
        lambda: AnchorHash(1, nodes=["n1", "n2"]),
        lambda: MultiProbeHash(0),
        lambda: BoundedLoad(0),
        lambda: BoundedLoad(load_factor=0.99),
        lambda: BoundedLoad(load_factor=float("nan")),
        lambda: BoundedLoad(vnodes=0),
        lambda: HashRing(nodes=["n1"]).get_nodes("k", 0),
        lambda: HashRing(nodes=["n1"]).get_nodes("k", -1),
        lambda: HashRing(nodes=["n1"]).get_nodes("k", True),
        lambda: HashRing(nodes=["n1"]).diff(HashRing(nodes=["n1"]), replicas=0),
        lambda: RendezvousHash(nodes=["n1"]).stats(sample_count=0),
        lambda: HashRing(nodes=["n1"]).node_at(1 << 64),
    ],
)
def test_counts_out_of_range_are_refused(make: Any) -> None:
    with pytest.raises(InvalidCount, match=r"\d"):
        make()


def test_maglev_names_a_table_size_that_would_do() -> None:
    with pytest.raises(InvalidCount, match=r"2 \* 32769: give a prime, such as 65539"):
        MaglevHash(65_538)
    with pytest.raises(InvalidCount, match=r"MaglevHash\(table_size=(\d+)\)"):
        MaglevHash(251, nodes=["n1", "n2", "n3"])


def test_jump_removes_only_its_newest_and_says_who_can() -> None:
    jump = JumpHash(4)

    with pytest.raises(NotSupported, match="AnchorHash"):
        jump.remove_node("0")
    jump.remove_node("3")

    assert jump.node_count == 3


def test_hash_functions_are_found_by_name_or_given() -> None:
    with pytest.raises(UnknownHashFunction, match=r"'md4'.*xxh3_64"):
        HashRing(hash_function="md4")
    own = HashFunction("own", lambda key: len(key) << 60)
    for wrong in (
        HashFunction("negative", lambda key: -1),
        HashFunction("wide", lambda key: 1 << 64),
        HashFunction("bytes", lambda key: b""),  # type: ignore[arg-type,return-value]
        HashFunction("two answers", lambda key: 1, lambda key: bytes(8)),
    ):
        with pytest.raises(UnknownHashFunction, match=wrong.name):
            HashRing(hash_function=wrong)

    assert HashRing(nodes=["n1"], hash_function=own).hash_function == "own"
    for name in HASH_FUNCTIONS:
        ring = HashRing(nodes=["n1", "n2", "n3"], hash_function=name)
        assert ring.get_many(KEYS) == [ring.get_node(key) for key in KEYS]


@pytest.mark.parametrize("algorithm", EVERY)
def test_all_refusals_are_of_one_family(algorithm: str) -> None:
    with pytest.raises(AegisError):
        placement(algorithm).add_node("n1")
    with pytest.raises(ValueError, match="n1"):
        placement(algorithm).add_node("n1")


# --- ring -----------------------------------------------------------------------------------------------------------


def test_ring_counts_its_virtual_nodes_by_weight() -> None:
    ring = HashRing(150)
    ring.add_node("a")
    ring.add_node("b", weight=2.0)

    points = ring.virtual_nodes()

    assert ring.virtual_node_count == len(points) == 450
    assert Counter(point.node for point in points) == {"a": 150, "b": 300}
    assert points == sorted(points, key=lambda point: (point.position, point.node))
    assert VirtualNode("a", 7, ring.key_position("a:7")) in points
    assert HashRing().virtual_node_count == 0


def test_ring_goes_clockwise_and_wraps_at_the_top() -> None:
    positions = {"a:0": 100, "b:0": 1 << 63, "low": 7, "at": 100, "mid": 101, "top": (1 << 64) - 1}
    ring = HashRing(
        1, nodes=["a", "b"], hash_function=HashFunction("table", lambda key: positions.get(key.decode(), 0))
    )

    assert [ring.get_node(key) for key in ("low", "at", "mid", "top")] == ["a", "a", "b", "a"]
    assert ring.get_nodes("mid", 2) == ["b", "a"]
    assert "wraps" in str(ring.explain("top"))


def test_colliding_points_belong_to_the_lesser_name_and_come_back() -> None:
    everything_collides = HashFunction("constant", lambda key: 5)
    ring = HashRing(3, nodes=["b", "a", "c"], hash_function=everything_collides)

    assert ring.get_nodes("k", 3) == ["a", "b", "c"]
    ring.remove_node("a")
    assert ring.get_node("k") == "b"


def test_ring_with_many_more_points_than_slots_is_still_exact() -> None:
    ring = HashRing(3_000, nodes=[f"n{index}" for index in range(40)])
    view = ring._view()

    assert [ring.get_node(key) for key in KEYS] == [view.locate(ring.key_position(key)) for key in KEYS]
    assert ring.get_many(KEYS) == [ring.get_node(key) for key in KEYS]


def test_first_names_of_the_readme_work() -> None:
    ring = HashRing(150)
    for node in ("node-1", "node-2", "node-3"):
        ring.add_node(node)

    replicas = ring.get_nodes("user:123", 3)

    assert replicas[0] == replicas.primary == ring.get_node("user:123")
    assert set(replicas) == {"node-1", "node-2", "node-3"}
    assert JumpHash.hash("user:123", 3) == JumpHash(3).bucket("user:123")


# --- the same everywhere --------------------------------------------------------------------------------------------

_ELSEWHERE = """
import sys
from aegis_replication.hash import placement_from_bytes
made = placement_from_bytes(bytes.fromhex(sys.argv[1]))
print(",".join(made.get_many([f"user:{index}" for index in range(2_000)])))
"""


@pytest.mark.parametrize("algorithm", EVERY)
def test_another_process_with_another_hash_seed_agrees(algorithm: str) -> None:
    made = placement(algorithm, "n1", "n2", "n3", "n4")

    answer = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE, made.to_bytes().hex()],
        env={"PYTHONHASHSEED": "12345", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert answer.stdout.strip() == ",".join(made.get_many(KEYS))


def test_without_numpy_the_answers_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    ring, jump = HashRing(nodes=[f"n{index}" for index in range(20)]), JumpHash(1_000)
    whatever_is_here = ring.get_many(KEYS), jump.get_many(KEYS), jump.bucket_many(KEYS)

    monkeypatch.setattr("aegis_replication.hash.ring.numpy", None)
    monkeypatch.setattr("aegis_replication.hash.jump.numpy", None)

    assert (ring.get_many(KEYS), jump.get_many(KEYS), jump.bucket_many(KEYS)) == whatever_is_here
    assert ring.get_many(KEYS) == [ring.get_node(key) for key in KEYS]
    assert jump.bucket_many(KEYS) == [jump.bucket(key) for key in KEYS]


def test_ketama_answers_for_custom_positions_of_32_bits() -> None:
    ring = KetamaRing(nodes=["n1", "n2"])

    assert ring.node_at((1 << 32) - 1) in {"n1", "n2"}
    with pytest.raises(InvalidCount):
        ring.node_at(1 << 32)
