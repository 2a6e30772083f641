"""Does any file of the project name a path of somebody's machine, or where its packages were downloaded?"""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOT_WALKED = {".git", ".venv", "build", "dist", "site", "__pycache__"}

# Written so that no pattern matches its own text.
PATTERNS = {
    "a path in somebody's home": re.compile(r"/(?:home|Users)/[A-Za-z]|(?<![\w.])/(?:root|work)/[\w.]|[A-Z]:\\Users\\"),
    "an option that names a package index": re.compile(r"-(?:-index-url|-extra-index-url|-find-links|-trusted-host)\b"),
    "a package registry's host": re.compile(
        r"\b(?:pypi|pythonhosted|crates|npmjs|maven|golang)\.(?:org|io|com)\b|\bproxy\.go[a-z]+\.org\b"
    ),
}


def project_files() -> list[Path]:
    """What git tracks or would track; in an unpacked source archive, all that is there."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listing.returncode == 0:
        paths = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    else:
        paths = [path for path in ROOT.rglob("*") if not NOT_WALKED & set(path.relative_to(ROOT).parts)]
    return [path for path in paths if path.is_file()]


def test_no_file_names_a_private_path_or_a_registry() -> None:
    files = project_files()

    found = [f"{path.relative_to(ROOT)}: {what}" for path in files for what in private(path.read_bytes())]

    assert len(files) > 10
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.name)
def test_lock_files_hold_hashes_and_no_address(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    pins = re.findall(r"^[a-z0-9][\w.-]*==\S+(.*(?:\n    .*)*)", text, flags=re.MULTILINE)

    assert pins
    assert all("--hash=sha256:" in pin for pin in pins)
    assert "://" not in text
    assert not re.search(r"^-", text, flags=re.MULTILINE), "a pip option stands in a lock file"


@pytest.mark.parametrize(
    "text",
    [
        "/".join(["", "home", "alice", "aegis"]),
        "/".join(["", "root", ".cache"]),
        "/".join(["", "Users", "bob"]),
        "--index" + "-url x",
        "py" + "pi" + ".org",
    ],
)
def test_each_private_form_is_found(text: str) -> None:
    assert private(text.encode())


@pytest.mark.parametrize(
    "text", ["the root of the tree", "n1/root/x", "https://www.apache.org/licenses/", "/var/lib/aegis"]
)
def test_what_only_looks_like_one_is_allowed(text: str) -> None:
    assert private(text.encode()) == []


def private(content: bytes) -> list[str]:
    text = content.decode("utf-8", errors="replace")
    return [what for what, pattern in PATTERNS.items() if pattern.search(text)]
