"""The code blocks of Markdown pages, and a process that runs them in order.

  python tests/code_blocks.py PAGE

runs the blocks of a page in the working folder: those in Python share their
names, those of the shell are run by bash, which stops at the first command that
fails. Blocks below `<!-- not run: reason -->` are left out.
"""

import dataclasses
import re
import shlex
import subprocess
import sys
import textwrap

_FENCE = re.compile(r'^(?P<indent> *)```(?P<language>\w*)')
_NOT_RUN = re.compile(r'^ *<!-- not run: (?P<reason>.+) -->$')
PYTHON = ('python',)
SHELL = ('bash', 'console', 'sh')


@dataclasses.dataclass(frozen=True)
class Block:
  """A code block.

  Attributes:
    line: The number of its first line of code in the page, from 1.
    language: As named by the page; '' if it names none.
    code: The lines, without indentation.
    not_run: Why it is not run; '' if it is.
  """

  line: int
  language: str
  code: str
  not_run: str = ''


def read(path: str) -> list[Block]:
  """Returns the code blocks of a page, in order."""
  with open(path, encoding='utf-8') as file:
    lines = file.read().splitlines()
  blocks = []
  reason, opened, first = '', None, 0
  for number, line in enumerate(lines):
    fence = _FENCE.match(line)
    if opened is None:
      if fence:
        opened, first = fence, number + 1
      elif line.strip():
        note = _NOT_RUN.match(line)
        reason = note['reason'] if note else ''
    elif fence and fence['indent'] == opened['indent']:
      code = textwrap.dedent('\n'.join(lines[first:number])) + '\n'
      blocks.append(Block(first + 1, opened['language'], code, reason))
      reason, opened = '', None
  return blocks


def commands(code: str) -> list[list[str]]:
  """Returns the commands of a block of the shell, each as its words."""
  joined = code.replace('\\\n', '')
  return [
    words
    for line in joined.splitlines()
    if (words := shlex.split(line, comments=True))
  ]


def has_runnable(path: str) -> bool:
  """Tells whether a page has blocks that are run."""
  return any(
    block.language in (*PYTHON, *SHELL) and not block.not_run
    for block in read(path)
  )


def _run(path: str) -> None:
  names: dict = {'__name__': '__main__'}
  for block in read(path):
    if block.not_run:
      continue
    print(f'{path}:{block.line}', file=sys.stderr, flush=True)
    if block.language in PYTHON:
      # The line numbers of a traceback are then those of the page.
      code = '\n' * (block.line - 1) + block.code
      exec(compile(code, path, 'exec'), names)
    elif block.language in SHELL:
      subprocess.run(['bash', '-euo', 'pipefail', '-c', block.code], check=True)


if __name__ == '__main__':
  _run(sys.argv[1])
