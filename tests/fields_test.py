"""Fields: what their metadata refuses."""

import dataclasses
import fractions

import numpy as np
from absl.testing import absltest, parameterized

from ft_tf import errors, fields


@dataclasses.dataclass
class _Numbers:
  count: int = fields.field('number of things', least=1, default=1)
  share: float = fields.field('share', above=0, most=1, default=0.5)
  flag: bool = fields.field('whether', default=False)
  name: str = fields.field('name', choices=('a', 'b'), default='a')
  weight: float | str = fields.field('weight', words=('auto',), default=1.0)
  steps: tuple[int, ...] = fields.field('steps', least=1, default=())


_FIELDS = {field.name: field for field in dataclasses.fields(_Numbers)}


class CheckTest(parameterized.TestCase):
  @parameterized.parameters(
    ('count', 1),
    ('share', 1),
    ('flag', True),
    ('name', 'b'),
    ('weight', 3),
    ('weight', 'auto'),
    ('steps', ()),
    ('steps', (1, 2)),
  )
  def test_value_within_bounds_is_accepted(self, name, value):
    fields.check(_FIELDS[name], name, value)

  @parameterized.parameters(
    ('count', 0, '--count=0: number of things; give 1 or more'),
    ('count', 1.5, '--count=1.5: number of things; it is not of the type int'),
    ('count', '1', "--count='1': .*; it is not of the type int"),
    ('share', 0.0, 'give a value above 0'),
    ('share', 1.5, 'give 1 or less'),
    ('share', float('nan'), 'give a finite number'),
    ('weight', 10**400, 'give a finite number'),
    ('flag', 1, 'not of the type bool'),
    ('name', 'c', 'give one of a, b'),
    ('weight', 'much', '--weight=much: weight; give a number, or auto'),
    ('steps', (1, 0), '--steps=0: steps; give 1 or more'),
    ('steps', (1, 'x'), "--steps='x': .*not of the type"),
    ('steps', 3, '--steps=3: steps; give several values, or one in a tuple'),
    ('share', (), r'--share=\(\): share; give one value'),
    ('share', (0.5, 0.5), r'--share=\(0.5, 0.5\): share; give one value'),
    ('count', True, '--count=True: .*not of the type int'),
    # It could not be written to the recipe's file.
    ('share', fractions.Fraction(1, 3), 'not of the type float'),
    ('share', None, '--share=None: .*not of the type float'),
  )
  def test_value_out_of_bounds_is_refused_by_flag(self, name, value, message):
    with self.assertRaisesRegex(errors.UsageError, message):
      fields.check(_FIELDS[name], name, value)


class ReadTest(parameterized.TestCase):
  @parameterized.parameters(
    ('count', np.int64(2), 2),
    ('count', np.array(2), 2),
    ('share', np.float32(0.25), 0.25),
    ('flag', np.True_, True),
    ('name', np.str_('b'), 'b'),
    ('steps', [1, np.int32(2)], (1, 2)),
    ('steps', np.array([1, 2]), (1, 2)),
  )
  def test_values_of_numpy_and_lists_become_what_a_file_can_hold(
    self, name, given, wanted
  ):
    value = fields.read(_FIELDS[name], name, given)
    self.assertEqual(value, wanted)
    self.assertIs(type(value), type(wanted))
    fields.check(_FIELDS[name], name, value)


if __name__ == '__main__':
  absltest.main()
