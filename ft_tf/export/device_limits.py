"""Limits of what a student's files may take on a device."""

import dataclasses
import math
import numbers

from ft_tf import errors
from ft_tf.export import formats

# The format of a limit that names none.
USUAL = 'int8'

# The figure that each limit is on, and how it is written.
_FIGURES = {
  'max_bytes': 'bytes',
  'max_latency_ms': 'latency_ms',
  'max_ram': 'arena_bytes',
}


@dataclasses.dataclass(frozen=True)
class Limit:
  """The most that a figure of one file may be.

  Attributes:
    flag: Its flag, without dashes.
    format: Of the file, as of `formats.FORMATS`.
    most: Bytes or milliseconds.
  """

  flag: str
  format: str
  most: float

  @property
  def figure(self) -> str:
    """Returns the name of the figure, as `budget.Candidate.files` has it."""
    return _FIGURES[self.flag]


@dataclasses.dataclass(frozen=True)
class Limits:
  """What the files of a student may take; None: any.

  Each is a number, of the int8 file, or names its file as text: `'fp32:2.5'`.

  Attributes:
    max_bytes: Size of the file.
    max_latency_ms: Median for one image in one thread on this machine.
    max_ram: Tensor arena for one image in bytes, as of `memory.arena_bytes`.
  """

  max_bytes: float | str | None = None
  max_latency_ms: float | str | None = None
  max_ram: float | str | None = None

  def __post_init__(self) -> None:
    self.listed()  # Raises if one is no limit.

  def listed(self) -> list[Limit]:
    """Returns those that are given.

    Raises:
      UsageError: one is no positive number, or of no such format.
    """
    return [
      _read_limit(flag, value)
      for flag, value in vars(self).items()
      if value is not None
    ]

  def formats(self) -> list[str]:
    """Returns the formats that they are of, the usual one if there are none."""
    named = {limit.format for limit in self.listed()} or {USUAL}
    return [name for name in formats.FORMATS if name in named]

  def as_json(self) -> dict[str, float | str | None]:
    """Returns the limits by flag, in one form however they were given."""
    return dict.fromkeys(_FIGURES) | {
      limit.flag: limit.most
      if limit.format == USUAL
      else f'{limit.format}:{limit.most:.15g}'
      for limit in self.listed()
    }


def _read_limit(flag: str, value: float | str) -> Limit:
  example = f'--{flag}=fp32:{2 if flag == "max_latency_ms" else 10**6}'
  wanted = (
    'give a number above 0 for the int8 file, or with the name of another '
    f'file, such as {example}'
  )
  if isinstance(value, bool) or not isinstance(value, (str, numbers.Real)):
    raise errors.UsageError(f'--{flag}={errors.show(value)}: {wanted}')
  name, _, number = str(value).rpartition(':')
  name = name or USUAL
  if name not in formats.FORMATS:
    raise errors.UsageError(
      f'--{flag}={value}: there is no format {name}'
      f'{errors.did_you_mean(name, formats.FORMATS)}; give some of '
      f'{", ".join(formats.FORMATS)}'
    )
  if formats.FORMATS[name].untrained is not None:
    raise errors.UsageError(
      f'--{flag}={value}: what is in a file of the format {name} depends on '
      f'what the student has learned; give {USUAL}'
    )
  try:
    most = float(number)
  except ValueError:
    most = math.nan
  if not 0 < most < math.inf:
    raise errors.UsageError(f'--{flag}={value}: {wanted}')
  if flag == 'max_ram' and not formats.FORMATS[name].file.endswith('.tflite'):
    raise errors.UsageError(
      f'--{flag}={value}: {name} is run without a tensor arena; give a format '
      'of .tflite files'
    )
  return Limit(flag, name, int(most) if most.is_integer() else most)
