"""Sizes of images: the form of recipes."""

import numpy as np
from absl.testing import absltest, parameterized

from ft_tf import sizes


class ReadTest(parameterized.TestCase):
  @parameterized.parameters(
    (96, 96),
    ('96', 96),
    ('96x96', 96),
    (0, 0),
    ('0', 0),
    (np.int64(8), 8),
    ('96x160', '96x160'),
    ('096x0160', '96x160'),
    ((48, 80), '48x80'),
    ([np.int32(48), 80], '48x80'),
    ((48, 48), 48),
  )
  def test_square_is_an_integer_and_others_a_text(self, given, wanted):
    size = sizes.read(given)
    self.assertEqual(size, wanted)
    self.assertIs(type(size), type(wanted))

  @parameterized.parameters(
    '96x', 'x96', '0x5', '5x0', '0x0', '-1', -1, '96x160x3', ((1, 2, 3),),
    ((1.5, 2),), 1.5, '96X160', ' 96', '', None,
  )  # fmt: skip
  def test_anything_else_is_refused(self, given):
    with self.assertRaises(ValueError):
      sizes.read(given)

  @parameterized.parameters((96, (96, 96)), ('96x160', (96, 160)), (0, (0, 0)))
  def test_height_comes_first(self, size, wanted):
    self.assertEqual(sizes.height_and_width(size), wanted)
    self.assertEqual(sizes.of(*wanted), size)


if __name__ == '__main__':
  absltest.main()
