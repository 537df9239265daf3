"""Files of the repository that are generated from the sources: written, or checked to be current.

For developers only; the operator never imports it.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path


def run(module: str, files: Callable[[Path], Mapping[Path, str]], arguments: list[str] | None) -> int:
    """Writes the files that are not current, or with `--check` only says which these are. Returns the exit code.

    Args:
        module: the module that is run, for what is printed.
        files: gives the path and the text of each file, from the root of the repository.
        arguments: the command line; that of the process if None.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description="Writes what is generated.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is not current")
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="root of the repository (default: here)")
    options = parser.parse_args(arguments)
    stale = {
        path: text
        for path, text in files(options.root).items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    }
    for path, text in stale.items():
        if options.check:
            print(f"{path} is not current; run python -m {module}", file=sys.stderr)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}")
    return 1 if options.check and stale else 0
