"""The example notebook of docs/ runs from top to bottom, in a kernel of its own; the page holds no outputs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from tests.sample_model import AS_OF, World

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "examples" / "try-ideas.ipynb"
#: The line that says which model; here it is that of the shop.
CHOICE = 'MODEL, AS_OF = "flight_delay", "2013-09-30"'


def test_the_example_notebook_runs_and_holds_no_outputs(
    notebook: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = nbformat.read(PAGE, as_version=4)
    nbformat.validate(page)
    code = [cell for cell in page.cells if cell.cell_type == "code"]
    assert {(tuple(cell.outputs), cell.execution_count) for cell in code} == {((), None)}
    assert code[0].source.endswith(CHOICE)
    code[0].source = code[0].source.replace(CHOICE, f'MODEL, AS_OF = "visits", "{AS_OF.date()}"')
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "plugins"))
    for name in ("HOME", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    NotebookClient(page, timeout=120, kernel_name="python3").execute(cwd=str(tmp_path))
    shown = [
        "".join(
            o.get("text", "") or o.data["text/plain"] for o in cell.outputs if "name" not in o or o.name == "stdout"
        )
        for cell in code
    ]
    assert "holdout" in shown[1]
    assert "try 1" in shown[2]
    assert "champion 1" in shown[2]
    assert "difference" in shown[3].partition("try 1")[2]
    assert "importance:" in shown[4]
    assert "prediction" in shown[5]
