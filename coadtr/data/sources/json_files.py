"""Read JSON files that people hand out, and name what is wrong with them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from coadtr.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_json"]


def read_json(path: Path) -> Any:
    """Read a JSON file, UTF-8 with or without a byte order mark, in which no object has a key twice.

    Args:
        path: The file.

    Raises:
        DataError: If it cannot be read, is no JSON, or repeats a key: a reader would take the last one unseen.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "fps.json"
        >>> _ = path.write_text('{"salad": 30}')
        >>> read_json(path)
        {'salad': 30}
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_no_key_twice)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not a whole JSON file ({error}): copy or download it again") from error


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise DataError(f"lists {key!r} twice: drop one of the two")
        content[key] = value
    return content
