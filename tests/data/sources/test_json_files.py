"""JSON files say what is wrong with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coadtr.data.sources.json_files import read_json
from coadtr.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('\ufeff{"a": [1, null]}', encoding="utf-8")
    assert read_json(tmp_path / "a.json") == {"a": [1, None]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1', r"a\.json: is not a whole JSON file .*: copy or download it again"),
        ("[" * 100_000, "is not a whole JSON file"),
        ('{"v": {"a": 30, "b": 25, "a": 25}}', r"a\.json: lists 'a' twice: drop one of the two"),
    ],
)
def test_faults(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_json(tmp_path / "a.json")
