"""The examples of the pages run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python(,no_run)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def programs(page: str) -> tuple[list[str], str]:
    """Programs with the line numbers of the page, one for each block with a ``__main__`` and one of all others; and
    what is not run."""
    lines, alone, idle = [""] * (page.count("\n") + 1), [], []
    for found in BLOCK.finditer(page):
        start, code = page[: found.start(2)].count("\n"), found[2]
        if found[1]:
            idle.append(code)
        elif "__main__" in code:
            alone.append("\n" * start + code)
        else:
            block = code.splitlines()
            lines[start : start + len(block)] = block
    return ["\n".join(lines), *alone], "\n".join(idle)


@pytest.mark.parametrize("name", ["README.md", "docs/python.md", "python/README.md"])
def test_page(name: str, tmp_path: Path) -> None:
    photo = Image.open(ROOT / "docs" / "coffee.png").convert("RGB")
    (tmp_path / "frames").mkdir()
    for copy in ("photo.jpg", "other.jpg", "frames/0.jpg", "frames/1.jpg"):
        photo.save(tmp_path / copy)
    run, idle = programs((ROOT / name).read_text(encoding="utf-8"))
    compile(idle, name, "exec")
    assert any(program.strip() for program in run), "no example"
    for program in run:
        file = tmp_path / "page.py"
        file.write_text(program, encoding="utf-8")
        done = subprocess.run([sys.executable, file], cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
