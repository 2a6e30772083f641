"""Do the alert rules in deploy/ name only metrics and labels that are there, and does each say what is wrong and why?

The project has no parser of YAML. The files keep to a form that can be read line by line, which is held as well; where
promtool is installed, it reads them and runs their own tests.
"""

import re
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from aegis_replication.observability.metrics import METRICS

DIRECTORY = Path(__file__).parents[2] / "deploy" / "prometheus"
RULES = (DIRECTORY / "aegis.rules.yml").read_text(encoding="utf-8")
LINE = re.compile(r"^(?P<indent> *)(?P<item>- )?(?P<key>[a-z]+):(?: (?P<value>\S.*))?$")
SERIES = {each.name: each.labels for each in METRICS if each.kind != "histogram"} | {
    f"{each.name}_bucket": (*each.labels, "le") for each in METRICS if each.kind == "histogram"
}
SCRAPED = {"job", "instance"}  # labels that Prometheus itself adds


class Rule(msgspec.Struct):
    alert: str
    expr: str = ""
    wait: str = "0s"
    severity: str = ""
    summary: str = ""
    description: str = ""


def read(text: str) -> list[Rule]:
    """The rules of a file in our form: two blanks a level, one key a line, long texts folded (>-) and indented."""
    rules: list[Rule] = []
    folded, level = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        indent = len(line) - len(line.lstrip())
        if folded and indent > level:
            setattr(rules[-1], folded, f"{getattr(rules[-1], folded)} {line.strip()}".strip())
            continue
        found, folded = LINE.match(line), ""
        assert found, f"line {number} is not in our form: {line!r}"
        assert "\t" not in line, f"line {number} has a tab"
        key, value = {"for": "wait"}.get(found["key"], found["key"]), found["value"] or ""
        if key == "alert":
            assert (indent, found["item"]) == (6, "- "), f"line {number}: a rule begins elsewhere"
            rules.append(Rule(value))
        elif key in ("expr", "wait", "labels", "annotations"):
            assert indent == 8, f"line {number}: {key} belongs to the rule"
        elif key in ("severity", "summary", "description"):
            assert indent == 10, f"line {number}: {key} belongs to the labels or annotations"
        else:
            assert (indent, key) in ((0, "groups"), (2, "name"), (4, "rules")), f"line {number}: {key} is unknown"
        if key in Rule.__struct_fields__ and key != "alert":
            assert value == ">-" or value.startswith('"') or ": " not in value, f"line {number}: quote the value"
            if value == ">-":
                folded, level = key, indent
            else:
                setattr(rules[-1], key, value.strip('"'))
    return rules


ALL = read(RULES)


def test_the_rules_cover_what_stops_a_cluster() -> None:
    names = [rule.alert for rule in ALL]

    assert len(names) == len(set(names)) >= 10
    assert {"AegisNoLeader", "AegisDiskNearlyFull", "AegisFlushSlow", "AegisFollowerBehind", "AegisManyElections"} <= {
        *names
    }


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: rule.alert)
def test_a_rule_names_only_metrics_and_labels_that_are_there(rule: Rule) -> None:
    metrics = re.findall(r"\b(?:aegis|process)_\w+", rule.expr)
    grouped = re.findall(r"\bby \(([^)]*)\)", rule.expr)
    said = re.findall(r"\$labels\.(\w+)", rule.summary + rule.description)
    shown = re.findall(r"\baegis_\w+", rule.description)

    assert metrics, rule.expr
    assert not {*metrics} - {*SERIES}, rule.expr
    labels = SCRAPED.union(*(SERIES[name] for name in metrics))
    by = {label.strip() for each in grouped for label in each.split(",")}
    assert by <= labels
    assert {*said} <= (by or labels), "the summary shows a label that the expression drops"
    assert {*shown} <= {each.name for each in METRICS}
    assert rule.expr.count("(") == rule.expr.count(")")


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: rule.alert)
def test_a_rule_says_how_bad_it_is_what_it_means_and_what_to_do(rule: Rule) -> None:
    assert re.fullmatch(r"Aegis[A-Z]\w+", rule.alert)
    assert rule.severity in ("page", "ticket")
    assert re.fullmatch(r"\d+[sm]", rule.wait)
    assert "{{ $labels." in rule.summary
    assert len(rule.description) > 80


def test_a_file_that_is_out_of_form_is_noticed() -> None:
    for bad in ("      - alert: A\n       expr: x", "      - alert: A\n        exprs: x", "\t- alert: A", "rules"):
        with pytest.raises(AssertionError, match="line"):
            read(bad)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
@pytest.mark.parametrize("words", [("check", "rules", "aegis.rules.yml"), ("test", "rules", "aegis.test.yml")])
def test_promtool_accepts_the_rules_and_their_own_tests(words: tuple[str, ...]) -> None:
    result = subprocess.run(["promtool", *words], cwd=DIRECTORY, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stdout + result.stderr
