"""Airflow reads the DAG files again for every task, so reading them must cost nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAVY = ["pandas", "numpy", "sklearn", "scipy", "pyarrow", "great_expectations", "joblib", "adbc_driver_postgresql"]

PROBE = """
import json, runpy, sys, time
import airflow.sdk
before = set(sys.modules)
seconds = []
for file in sys.argv[1:]:
    begin = time.process_time()
    runpy.run_path(file)
    seconds.append(time.process_time() - begin)
print(json.dumps({"seconds": seconds, "modules": sorted(m.partition(".")[0] for m in set(sys.modules) - before)}))
"""


def probe(*files: Path) -> dict[str, list[object]]:
    """Run DAG files in a fresh Python; return CPU seconds per file, beyond Airflow's own import, and new modules."""
    command = [sys.executable, "-c", textwrap.dedent(PROBE), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_reading_the_dag_files_imports_no_heavy_library() -> None:
    found = probe(*sorted((ROOT / "dags").glob("*.py")))
    assert not set(HEAVY) & set(found["modules"])


def test_reading_each_dag_file_takes_under_a_second_of_cpu() -> None:
    # About 0.1 s where this was written; CPU time, so that a busy machine does not count.
    found = probe(*sorted((ROOT / "dags").glob("*.py")))
    assert max(found["seconds"]) < 1.0


def test_plugins_folder_gives_airflow_no_module_to_run() -> None:
    """Airflow runs every file below plugins/ under its bare name, unless .airflowignore says otherwise."""
    code = textwrap.dedent("""
        import sys
        from airflow.plugins_manager import _load_plugins_from_plugin_directory as load  # what every process does
        before = set(sys.modules)
        load(plugins_folder=sys.argv[1])
        print(sorted(set(sys.modules) - before))
    """)
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, str(ROOT / "plugins")], capture_output=True, text=True, check=True
        )
    except subprocess.CalledProcessError as error:
        raise AssertionError(error.stderr) from error
    stems = {path.stem for path in (ROOT / "plugins" / "ponte").rglob("*.py")}
    assert not stems & set(eval(done.stdout.splitlines()[-1]))  # noqa: S307 - printed by the line above
