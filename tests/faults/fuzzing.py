"""What tries the drawn cases of a fuzz in a sandbox, and judges each."""

import os
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from absl.testing import absltest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.faults import fuzz_inputs, mutations, sandbox, storage_faults


def count_ends(
  cases: st.SearchStrategy[Any],
  count: int,
  try_one: Callable[[Any], int | str],
) -> Counter[int | str]:
  """Returns how many cases, drawn under the seed, had each end.

  Args:
    cases: What is drawn from.
    count: How many are drawn.
    try_one: Runs a case and returns its end.
  """
  ends: Counter[int | str] = Counter()

  @seed(storage_faults.SEED)
  @settings(
    max_examples=count,
    deadline=None,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
  )
  @given(cases)
  def run(case):
    ends[try_one(case)] += 1

  run()
  return ends


class FuzzCase(absltest.TestCase):
  """A test whose class has a sandbox with the inputs of the fuzz.

  Attributes:
    box: The sandbox.
  """

  box: sandbox.Sandbox

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.box = sandbox.make(cls)
    cls.fill()
    cls.box.settle()

  @classmethod
  def fill(cls) -> None:
    """Makes what every case begins with."""
    fuzz_inputs.make(cls.box)

  def check(
    self,
    ended: sandbox.Ended,
    command: str,
    arguments: Sequence[str],
    content: mutations.Placed = b'',
  ) -> None:
    """Fails a test if a command did what it must not do.

    With FT_TF_FAULTS_KEEP_GOING=FILE it writes that into a file instead.
    """
    if not ended.wrong:
      return
    text = '\n'.join(
      [
        f'ft-tf {command} {shlex.join(arguments)}',
        f'exit code {ended.code}',
        *ended.wrong,
        ended.err[-2000:],
        f'{content!r:.2000}',
      ]
    )
    path = os.environ.get('FT_TF_FAULTS_KEEP_GOING')
    if path:
      with open(path, 'a', encoding='utf-8', errors='backslashreplace') as file:
        file.write(f'{"=" * 78}\n{text}\n')
    else:
      self.fail(text)
