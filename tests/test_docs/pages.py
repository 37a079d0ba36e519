"""What the pages hold: commands, code, links."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *(ROOT / name for name in ('README.md', 'CONTRIBUTING.md')),
        *(ROOT / 'docs').rglob('*.md'),
    ]
)
# Words of the shell, after which or alone in a line no command is left.
KEYWORDS = ('do', 'then', '{', '}', 'done', 'fi')
BUILTINS = ('for', 'export', 'cd', 'mkdir', '[', '.')
INLINE = re.compile(r'`((?:python tools/|mmscope |tools/\w+\.sh )[^`]+)`')


def name(page):
    """Path of a page from the root of the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks(page, language):
    """Contents of a page's fenced blocks of a language."""
    pattern = rf'^```{language}\n(.*?)^```'
    return re.findall(pattern, page.read_text(), re.M | re.S)


def simple_commands(text):
    """Split shell text into the words of each simple command in it."""
    for line in text.replace('\\\n', ' ').splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=';&|')
        lexer.whitespace_split = True
        words = []
        for word in [*lexer, ';']:
            if word in (';', '&&', '|'):
                yield words
                words = []
            else:
                words.append(word)


def commands(page):
    """Commands of a page, in blocks and in text, without the shell's own."""
    functions = set()
    texts = blocks(page, 'shell')
    inline = [' '.join(x.split()) for x in INLINE.findall(page.read_text())]
    for words in simple_commands('\n'.join([*texts, *inline])):
        if words and words[0].endswith('()'):
            functions.add(words.pop(0)[:-2])
        while words and (words[0] in KEYWORDS or re.match(r'\w+=', words[0])):
            words.pop(0)
        if words and words[0] not in (*BUILTINS, *functions):
            yield [plain(word) for word in words if not word.startswith('${@')]


def plain(word):
    """Put what any value could be for the shell's variables."""
    return re.sub(r'\$\{?\w+\}?', '*', word)
