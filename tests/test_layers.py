"""The import contracts of pyproject.toml hold; docs/architecture.md draws them."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_every_import_contract_is_kept(tmp_path: Path) -> None:
    code = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command()"
    checked = subprocess.run(
        [sys.executable, "-c", code, "--no-logo", "--cache-dir", str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert " 0 broken" in checked.stdout


def test_the_migrations_folder_cannot_shadow_the_library_alembic() -> None:
    assert not (ROOT / "alembic" / "__init__.py").exists()
