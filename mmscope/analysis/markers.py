"""Generated text inside documents that people write."""

from __future__ import annotations

from pathlib import Path

from mmscope.whole_files import write_whole


def markers(tool: str) -> tuple[str, str]:
    """Name the lines between which a tool writes."""
    return f'<!-- {tool}: begin -->', f'<!-- {tool}: end -->'


def replace_between(text: str, tool: str, report: str, name: str) -> str:
    """Put a report between the markers of a document.

    Raises:
        ValueError: If the markers are not there once each, in order.
    """
    begin, end = markers(tool)
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f'{name} needs one line {begin} and one line {end}')
    before, rest = text.split(begin)
    if end not in rest:
        raise ValueError(f'{name}: {begin} must stand before {end}')
    after = rest.split(end)[1]
    return f'{before}{begin}\n\n{report}\n\n{end}{after}'


def update_document(
    path: str | Path, tool: str, report: str, check: bool = False
) -> None:
    """Write a report into a document, or check that it is there.

    Raises:
        ValueError: If the file or its markers are missing, or a checked
            document is out of date.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f'{path} does not exist; --insert needs a document')
    old = path.read_text(encoding='utf-8')
    new = replace_between(old, tool, report, str(path))
    if not check:
        write_whole(path, new)
    elif new != old:
        raise ValueError(
            f'{path} is out of date; run this command without --check'
        )
