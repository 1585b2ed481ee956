"""Data files that come inside other packages."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from coadtr.errors import DataError, MissingExtraError

__all__ = ["packaged_file"]


def packaged_file(package: str, *parts: str, needed_by: str, extra: str) -> Path:
    """Return a data file inside an installed package, without importing the package.

    Args:
        package: Name of the package, as it is imported.
        parts: Folders and name of the file in it.
        needed_by: What needs it, for the message.
        extra: Extra of coadtr that installs it.

    Raises:
        MissingExtraError: If the package is not installed.
        DataError: If it is installed but does not carry the file.

    Example:
        >>> packaged_file("no_such_package", "a.npy", needed_by="this example", extra="demo")
        Traceback (most recent call last):
        coadtr.errors.MissingExtraError: this example needs the package no-such-package: install it with `pip ...
    """
    install = f'install it with `pip install "coadtr[{extra}]"`'
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not folders:
        raise MissingExtraError(f"{needed_by} needs the package {package.replace('_', '-')}: {install}")
    path = Path(folders[0]).joinpath(*parts)
    if not path.is_file():
        raise DataError(f"{path}: no such file: {install.replace('install it', 'reinstall the package', 1)}")
    return path
