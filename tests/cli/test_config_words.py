"""Do the words around the configuration file show what a node would be told?"""

from aegis_replication.cli import endings


def test_a_fresh_file_is_good_and_sets_nothing(aegis, tmp_path):
    file = tmp_path / "aegis.toml"

    assert aegis("config", "init", str(file)).code == endings.OK
    assert aegis("config", "check", str(file)).code == endings.OK
    rows = aegis("config", "show", str(file), "--origin", "-o", "jsonl").out.splitlines()
    assert len(rows) > 10
    assert all('"origin":"default"' in row for row in rows)


def test_each_line_of_a_fresh_file_may_be_taken_into_use(aegis, tmp_path):
    lines = aegis("config", "init").out.splitlines()
    file = tmp_path / "aegis.toml"
    file.write_text("\n".join(line.removeprefix("# ") if " = " in line else line for line in lines))

    assert aegis("config", "check", str(file)).code == endings.OK, file.read_text()


def test_a_file_is_never_written_over(aegis, tmp_path):
    file = tmp_path / "aegis.toml"
    file.write_text("mine")

    ran = aegis("config", "init", str(file))

    assert ran.code == endings.USAGE
    assert "not overwritten" in ran.err
    assert file.read_text() == "mine"


def test_show_says_who_won(aegis, tmp_path, monkeypatch):
    file = tmp_path / "aegis.toml"
    file.write_text('[raft]\nheartbeat_interval = 20\nelection_timeout_min = 100\n[cluster]\nname = "blue"\n')
    monkeypatch.setenv("AEGIS_RAFT__HEARTBEAT_INTERVAL", "30")

    shown = aegis("config", "show", str(file), "--origin", "-o", "json").json

    assert shown["raft"]["heartbeat_interval"]["value"] == 30
    assert shown["raft"]["heartbeat_interval"]["origin"] == "environment AEGIS_RAFT__HEARTBEAT_INTERVAL"
    assert shown["raft"]["election_timeout_min"]["origin"] == f"file {file}"
    assert shown["cluster"]["name"]["value"] == "blue"
    assert shown["node"]["loop"]["origin"] == "default"


def test_show_takes_the_file_from_the_environment(aegis, tmp_path, monkeypatch):
    file = tmp_path / "aegis.toml"
    file.write_text('[cluster]\nname = "blue"\n')
    monkeypatch.setenv("AEGIS_CONFIG", str(file))

    assert aegis("config", "show", "-o", "json").json["cluster"]["name"] == "blue"
    assert "blue" in aegis("config", "show").out


def test_an_unknown_key_is_named_with_the_file(aegis, tmp_path):
    file = tmp_path / "aegis.toml"
    file.write_text("[raft]\nheartbeat = 20\n")

    ran = aegis("config", "check", str(file))

    assert ran.code == endings.USAGE
    assert str(file) in ran.err
    assert "raft.heartbeat_interval" in ran.err
