"""`neulig-fl init`: the scenarios that come with neulig-fl, copied to where they can be changed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neulig_fl.cli.streams import echo


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Destination folder; created if missing.")
    ],
) -> None:
    """Copy the scenarios that come with neulig-fl into a folder of your own.

    No file is overwritten: if a file of the same name has other content, nothing is copied.

    [bold]Examples[/]
      neulig-fl init scenarios
      neulig-fl run scenarios/quickstart.yaml
    """
    from neulig_fl.cli.exits import say
    from neulig_fl.core.errors import InputError, plain
    from neulig_fl.core.files import write_atomically

    source = bundled()
    names = sorted(path.relative_to(source) for path in source.rglob("*.yaml"))
    changed = [name for name in names if _differs(folder / name, source / name)]
    if changed:
        listed = ", ".join(map(str, changed))
        raise InputError(f"{folder}: holds other files called {listed}; choose another folder")
    for name in names:
        if not (folder / name).exists():
            write_atomically(folder / name, (source / name).read_bytes())
        echo(plain(folder / name))
    say(f"next: neulig-fl run {folder / 'quickstart.yaml'}")


def bundled() -> Path:
    """Find the scenarios: in a wheel they are data of the package, else they stand beside it.

    Raises:
        InputError: neither place has them.
    """
    from neulig_fl.core.errors import InputError

    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_scenarios", package.parent / "scenarios"):
        if (folder / "quickstart.yaml").is_file():
            return folder
    raise InputError("the scenarios were not installed with neulig_fl; install it again")


def _differs(target: Path, source: Path) -> bool:
    """Whether something else stands at `target`; a folder or a link that leads nowhere too."""
    try:
        return target.read_bytes() != source.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return target.is_symlink()
    except OSError:
        return True
