"""The parts of a command, and how long they take by what has been measured.

Nothing is run to estimate a time. The speed of a kind of part (all seeds of a
method are one kind) is known once its first steps after compiling are measured,
or from the rows of a run of an earlier call of the same command. A kind that is
not yet measured is taken to be as slow per step as the slowest kind that is;
the estimate is then called rough. Steps of all parts have the same batch size.
Only training is estimated: not the export, and no filling of a cache.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from ft_tf import run_dir


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
  """One part of a command.

  Attributes:
    path: The folder of its run, which is its key.
    name: What lines call it, such as 'student ft seed 1'.
    kind: Parts of one kind take equally long: 'student ft'.
    epochs: Epochs of training; 0: it trains nothing.
    images: Images per epoch.
    steps: Steps of training, over all epochs.
    note: What the plan says of a part that trains nothing.
  """

  path: str
  name: str
  kind: str
  epochs: int = 0
  images: int = 0
  steps: int = 0
  note: str = ''


@dataclasses.dataclass(frozen=True)
class Pace:
  """How long a kind of part takes.

  Attributes:
    fixed: Seconds beside the steps: building, compiling, the final test.
    step: Seconds per step, with its share of the validation.
  """

  fixed: float
  step: float


@dataclasses.dataclass(frozen=True)
class TimeLeft:
  """An estimate.

  Attributes:
    seconds: Of all parts that are not complete.
    not_measured: Kinds of part among them that have not been measured.
  """

  seconds: float
  not_measured: int

  @property
  def rough(self) -> bool:
    """Whether it is partly a guess."""
    return self.not_measured > 0


class Clock:
  """The parts of a command with what is known of their time."""

  def __init__(self, parts: Iterable[Part]):
    """Reads what earlier calls of the command have left in the folders."""
    self.parts = list(parts)
    self._steps_done: dict[str, int] = {}
    self._complete: set[str] = set()
    self._paces: dict[str, Pace] = {}
    for part in self.parts:
      run = run_dir.RunDir(part.path)
      rows, result = run.metrics(), run.read('result.json')
      if result is not None:
        self._complete.add(part.path)
      if rows:
        self._steps_done[part.path] = rows[-1]['step']
        pace = _pace_of_rows(rows, result)
        if pace is not None:
          self._paces[part.kind] = pace

  def place(self, path: str) -> int | None:
    """Returns the place of a part, from 1; None if it is none of the parts."""
    for number, part in enumerate(self.parts, start=1):
      if part.path == path:
        return number
    return None

  def is_complete(self, part: Part) -> bool:
    return part.path in self._complete

  def complete(self, path: str) -> None:
    self._complete.add(path)

  def measure(self, path: str, pace: Pace, steps_done: int) -> None:
    """Takes the pace of a running part, and how far it is."""
    self._steps_done[path] = steps_done
    for part in self.parts:
      if part.path == path:
        self._paces[part.kind] = pace

  def time_left(self, running: str = '') -> TimeLeft | None:
    """Returns the time that all parts still take.

    Args:
      running: The path of the running part, whose building and compiling is
        over.

    Returns:
      None if nothing has been measured.
    """
    if not self._paces:
      return None
    slowest = Pace(
      max(pace.fixed for pace in self._paces.values()),
      max(pace.step for pace in self._paces.values()),
    )
    seconds, not_measured = 0.0, set()
    for part in self.parts:
      if part.path in self._complete or not part.steps:
        continue
      if part.kind not in self._paces:
        not_measured.add(part.kind)
      pace = self._paces.get(part.kind, slowest)
      left = max(part.steps - self._steps_done.get(part.path, 0), 0)
      seconds += left * pace.step + pace.fixed * (part.path != running)
    return TimeLeft(seconds, len(not_measured))

  def describe(self) -> list[str]:
    """Returns the lines of the plan, one for each kind of part."""
    if len(self.parts) < 2:
      return []
    complete = sum(map(self.is_complete, self.parts))
    already = f', {complete} of them complete' if complete else ''
    lines = [f'plan: {len(self.parts)} parts{already}']
    by_kind: dict[str, list[Part]] = {}
    for part in self.parts:
      by_kind.setdefault(part.kind, []).append(part)
    return lines + [f'  {_describe(same)}' for same in by_kind.values()]


def _describe(parts: Sequence[Part]) -> str:
  """Returns the line of the plan for parts of one kind."""
  part, count = parts[0], len(parts)
  if not part.steps:
    return part.name + (f': {part.note}' if part.note else '')
  several = count > 1
  return (
    f'{part.kind if several else part.name}: '
    f'{f"{count} seeds, " if several else ""}{part.epochs:,} '
    f'epoch{"s" * (part.epochs > 1)} of {part.images:,} images, '
    f'{part.steps:,} steps{" each" if several else ""}'
  )


def _pace_of_rows(
  rows: list[dict[str, Any]], result: dict[str, Any] | None
) -> Pace | None:
  """Returns the pace of an earlier run; None if it is too short to tell."""
  first, last = rows[0], rows[-1]
  if last['step'] == first['step'] or None in (
    first.get('wall_seconds'),
    last.get('wall_seconds'),
  ):
    return None
  step = (last['wall_seconds'] - first['wall_seconds']) / (
    last['step'] - first['step']
  )
  end = (result or {}).get('wall_seconds', last['wall_seconds'])
  return Pace(max(end - step * last['step'], 0.0), step)
