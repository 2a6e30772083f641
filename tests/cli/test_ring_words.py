"""Does `aegis ring` preview what placements do, and say clearly when it can't?"""

import pytest

from aegis_replication.cli import endings
from aegis_replication.cli.ring import bar
from aegis_replication.hash import ALGORITHMS, HashRing


def test_plan_draws_the_balance(aegis):
    ran = aegis("ring", "plan", "n1", "n2", "n3")

    assert ran.code == endings.OK, ran.err
    lines = ran.out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["n1", "n2", "n3"]
    assert all("█" in line and "|" in line for line in lines[1:4])
    assert lines[4].startswith("ring of 3 nodes: the fullest has 1.")


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_plan_as_json_is_what_the_library_says(aegis, algorithm):
    ran = aegis("ring", "plan", "--nodes", "3", "--add", "n4", "--algorithm", algorithm, "-o", "json")

    assert ran.code == endings.OK, ran.err
    assert set(ran.json) == {
        "algorithm", "node_count", "exact", "sample_count", "max_over_mean", "min_over_mean",
        "coefficient_of_variation", "table_bytes", "shares", "movement",
    }  # fmt: skip
    assert set(ran.json["movement"]) == {"moved_fraction", "ideal_fraction", "exact", "sample_count", "moves"}
    assert set(ran.json["shares"][0]) == {"node", "share_fraction", "expected_fraction", "share_over_expected"}
    assert ran.json["movement"]["moved_fraction"] == pytest.approx(0.25, abs=0.1)
    assert ran.json["node_count"] == 4


def test_diff_and_plan_agree(aegis):
    one = aegis("ring", "diff", "--before", "n1,n2,n3", "--after", "n1,n2,n3,n4", "--replicas", "2", "-o", "json")
    other = aegis("ring", "plan", "n1", "n2", "n3", "--add", "n4", "--replicas", "2", "-o", "json")

    assert one.json["movement"] == other.json["movement"]


@pytest.mark.parametrize("algorithm", ["anchor", "bounded_load", "jump"])
def test_diff_changes_what_depends_on_the_order_of_changes(aegis, algorithm):
    ran = aegis("ring", "diff", "--before", "4", "--after", "5", "--algorithm", algorithm, "-o", "json")

    assert ran.json["movement"]["moved_fraction"] == pytest.approx(0.2, abs=0.1)


def test_lookup_finds_what_the_library_finds(aegis):
    ring = HashRing(nodes=["n1", "n2", "n3"])

    ran = aegis("ring", "lookup", "user:1", "user:2", "-n", "3", "--replicas", "2", "-o", "json")

    assert [row["nodes"] for row in ran.json] == [ring.get_nodes(key, 2) for key in ("user:1", "user:2")]
    assert [row["position"] for row in ran.json] == [ring.key_position(key) for key in ("user:1", "user:2")]


def test_lookup_says_why_and_what_is_not_met(aegis):
    ran = aegis("ring", "lookup", "k", "--nodes", "n1@zone=a,n2@zone=a", "--replicas", "2", "--spread", "zone", "--why")

    assert ran.code == endings.OK
    assert "next point clockwise" in ran.out
    assert "wanted 2 distinct values of 'zone', found 1" in ran.err


def test_weights_and_labels_are_read(aegis):
    ran = aegis("ring", "plan", "n1", "n2@weight=3@zone=eu", "-o", "json")

    assert ran.json["shares"][1]["expected_fraction"] == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["plan"], "no nodes"),
        (["plan", "n1", "n1"], "already"),
        (["plan", "n1", "--remove", "n7"], "n7"),
        (["plan", "n1@weight=0"], "weight"),
        (["plan", "n1@weight=heavy"], "not a number"),
        (["plan", "n1@zone"], "name=value"),
        (["plan", "--nodes", "0"], "give 1 to"),
        (["plan", "n1", "--vnodes", "0"], "vnodes = 0"),
        (["plan", "n1", "--add", "n2", "--replicas", "0"], "replicas = 0"),
        (["lookup", "--nodes", "3"], "no keys"),
        (["diff", "--before", "n1,n2", "--after", "n2", "--algorithm", "jump"], "newest"),
    ],
)
def test_bad_words_get_one_clear_line(aegis, words, said):
    ran = aegis("ring", *words)

    assert ran.code != endings.OK
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert "bug" not in ran.err


@pytest.mark.parametrize("command", ["plan", "diff", "lookup"])
def test_help_shows_examples(aegis, command):
    ran = aegis("ring", command, "--help")

    assert ran.code == endings.OK
    assert f"aegis ring {command}" in ran.out.partition("Examples:")[2]


def test_bar_marks_what_is_due():
    assert bar(1.0, 0.5, width=8) == "███|████"
    assert bar(0.25, 1.0, width=8) == "██     |"
    assert bar(0.0, 0.0, width=8) == "|"
