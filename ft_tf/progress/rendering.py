"""The text of progress: pure functions of what is known and of a width."""

import dataclasses
import math
from collections.abc import Iterator

_LONGEST_BAR = 20  # cells between its ends
_SHORTEST_BAR = (4, 4, 4, 2)  # by level of abbreviation
_SHORTEST = 4  # level of abbreviation
# What is left out of a line that is too long, in this order; and how far the
# words of the rest are abbreviated then.
_LEFT_OUT = (
  ('bar', 3),
  ('speed', 3),
  ('loss', 3),
  ('all', 3),
  ('', _SHORTEST),
  ('left', _SHORTEST),
  ('validation', _SHORTEST),
  ('epoch', _SHORTEST),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class State:
  """What is known of the part that is running.

  Attributes:
    name: The part's name, such as 'student ft seed 1'.
    part: Its place among the parts of the command, from 1.
    parts: Number of parts; 1 shows no place.
    status: What it does instead of training, such as 'compiling'; '' while it
      trains.
    epoch: The current epoch, from 1; 0: none yet.
    epochs: Epochs of the part.
    share: The steps that are done, 0..1.
    loss: The mean loss of the last steps.
    accuracy: The last validation accuracy, 0..1.
    validation_loss: The last validation loss of a part without an accuracy.
    images_per_second: The speed of the last steps.
    seconds_left: Of this part.
    all_seconds_left: Of all parts of the command.
    rough: Whether the time of all parts is a guess: not every kind of part has
      been measured.
  """

  name: str
  part: int = 1
  parts: int = 1
  status: str = ''
  epoch: int = 0
  epochs: int = 0
  share: float = 0.0
  loss: float | None = None
  accuracy: float | None = None
  validation_loss: float | None = None
  images_per_second: float | None = None
  seconds_left: float | None = None
  all_seconds_left: float | None = None
  rough: bool = False


def render_bar(state: State, width: int) -> str:
  """Returns the progress line of a terminal, at most `width` characters.

  The bar becomes shorter first. If that is not enough, words are abbreviated,
  and then fields are left out, the least important first.

  Args:
    state: What is known.
    width: Columns, 1 or more.
  """
  levels = ((level, ()) for level in range(_SHORTEST))
  for level, left_out in (*levels, *_left_out()):
    fields = _without(_fields(state, level), left_out)
    line = _compose(state, fields, width, level)
    if line is not None:
      return line
  return _join(fields, _gap(_SHORTEST))[:width]


def render_line(state: State) -> str:
  """Returns a line for a file: every field, no bar."""
  fields = _fields(state, 0)
  fields.pop('bar', None)
  if state.epochs and not state.status and state.share < 1:
    fields['epoch'] += f' ({100 * state.share:.0f} %)'
  return _join(fields, _gap(0))


def render_epoch(state: State, seconds: float, width: int | None = None) -> str:
  """Returns the permanent line of an epoch that has ended.

  Args:
    state: What is known at its end.
    seconds: Since the part began.
    width: At most so many characters; None: any number.
  """
  kept = dataclasses.replace(state, seconds_left=None, all_seconds_left=None)
  levels = ((level, ()) for level in range(_SHORTEST))
  for level, left_out in (*levels, *_left_out()):
    fields = _fields(kept, level) | {'left': format_time(seconds)}
    line = _join(_without(fields, ('bar', *left_out)), _gap(level))
    if width is None or len(line) <= width:
      return line
  return line[:width]


def format_time(seconds: float) -> str:
  """Returns a duration as M:SS or H:MM:SS, rounded up to seconds."""
  minutes, second = divmod(math.ceil(max(seconds, 0)), 60)
  hour, minute = divmod(minutes, 60)
  if hour:
    return f'{hour}:{minute:02}:{second:02}'
  return f'{minute}:{second:02}'


def describe_time(seconds: float) -> str:
  """Returns a duration as words, such as 'about 14 min'."""
  if seconds < 90:
    return f'about {max(5, 5 * math.ceil(seconds / 5))} s'
  if seconds < 90 * 60:
    return f'about {round(seconds / 60)} min'
  return f'about {seconds / 3600:.1f} h'


def format_number(value: float) -> str:
  """Returns a number with three significant digits."""
  if not math.isfinite(value):
    return str(value)
  size = abs(value)
  if size >= 1e6 or 0 < size < 1e-3:
    return f'{value:.2g}'
  digits = 2 - math.floor(math.log10(size)) if size else 2
  return f'{value:.{max(digits, 0)}f}'


def _left_out() -> Iterator[tuple[int, tuple[str, ...]]]:
  """Yields levels of abbreviation and the fields left out, more and more."""
  names: tuple[str, ...] = ()
  for name, level in _LEFT_OUT:
    names = (*names, name)
    yield level, names


def _without(fields: dict[str, str], names: tuple[str, ...]) -> dict[str, str]:
  return {name: text for name, text in fields.items() if name not in names}


def _fields(state: State, level: int) -> dict[str, str]:
  """Returns the texts of a line by name, in order; 'bar' is a place for it.

  Args:
    state: What is known.
    level: 0 (words in full) to `_SHORTEST`.
  """
  name = state.name if level < 2 else state.name.removeprefix('student ')
  fields = {
    'part': f'[{state.part}/{state.parts}]' if state.parts > 1 else '',
    'name': name,
  }
  if state.status:
    fields['status'] = state.status
  elif state.epochs:
    word = 'epoch ' if level < 2 else 'ep ' if level < _SHORTEST else ''
    fields['epoch'] = f'{word}{state.epoch}/{state.epochs}'
    fields['bar'] = ''
    if state.loss is not None:
      fields['loss'] = f'loss {format_number(state.loss)}'
    fields['validation'] = _validation(state, level)
    fields['speed'] = _speed(state, level)
    if state.seconds_left is not None:
      word = 'ETA ' if level < _SHORTEST else ''
      fields['left'] = word + format_time(state.seconds_left)
  if state.all_seconds_left is not None and state.parts > 1:
    time = ('~' if state.rough else '') + format_time(state.all_seconds_left)
    fields['all'] = f'(all {time})' if level < 3 else f'({time})'
  return fields


def _gap(level: int) -> str:
  return ' ' * (2 if level == 0 else 1)


def _validation(state: State, level: int) -> str:
  word = 'val ' if level < _SHORTEST else ''
  if state.accuracy is not None:
    percent = ' %' if level < 2 else '%'
    return f'{word}{100 * state.accuracy:.1f}{percent}'
  if state.validation_loss is not None:
    return word + format_number(state.validation_loss)
  return ''


def _speed(state: State, level: int) -> str:
  speed = state.images_per_second
  if speed is None:
    return ''
  number = f'{speed:,.0f}' if speed >= 10 else f'{speed:.1f}'
  return f'{number} img/s' if level < 3 else f'{number}/s'


def _compose(
  state: State, fields: dict[str, str], width: int, level: int
) -> str | None:
  """Returns the line with a bar as long as fits; None if it does not fit."""
  gap = _gap(level)
  line = _join(fields, gap)
  if 'bar' not in fields:
    return line if len(line) <= width else None
  cells = min(width - len(line), _LONGEST_BAR)
  if cells < _SHORTEST_BAR[level]:
    return None
  filled = math.floor(state.share * cells)
  return _join(fields | {'bar': '#' * filled + ' ' * (cells - filled)}, gap)


def _join(fields: dict[str, str], gap: str) -> str:
  """Returns the fields in one line; some belong closer to their neighbour."""
  line, last = '', ''
  for name, text in fields.items():
    if name == 'bar':
      text = f'|{text}|'
    elif not text:
      continue
    close = last in ('part', 'bar') or name in ('bar', 'all')
    line += (' ' if close else gap) * bool(line) + text
    last = name
  return line
