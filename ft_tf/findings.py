"""What a check before training found, and the flag that changes it."""

import dataclasses
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class Finding:
  """One thing that was checked.

  Attributes:
    what: Such as 'teacher accuracy'.
    says: What was found, in words.
    flag: The flag, or flags, that change it.
  """

  what: str
  says: str
  flag: str

  def __str__(self) -> str:
    return f'{self.what}: {self.says} [{self.flag}]'


def show_shape(shape: Iterable[int | None]) -> str:
  """Returns a shape as '8x8x64'."""
  return 'x'.join(map(str, shape))
