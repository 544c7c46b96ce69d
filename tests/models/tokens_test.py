"""Tokens and the grid that they lie on."""

import keras
import numpy as np
from absl.testing import absltest, parameterized

from ft_tf.models import tokens


class GridTest(parameterized.TestCase):
  @parameterized.parameters(
    ((None, 49, 8), (224, 224), (7, 7)),
    ((None, 50, 8), (224, 224), (7, 7)),  # the class's token before them
    ((None, 24, 8), (12, 8), (6, 4)),
    ((None, 25, 8), (12, 8), (6, 4)),
    ((None, 16, 8), (None, None), (4, 4)),
    ((None, 48, 8), (224, 224), None),
    ((None, 1, 8), (32, 32), None),  # one token is no map
    ((None, 2, 8), (32, 32), None),
    ((None, None, 8), (32, 32), None),
    ((None, 49), (224, 224), None),
    ((None, 7, 7, 8), (224, 224), None),
  )
  def test_grid_has_the_images_shape(self, shape, image_size, size):
    self.assertEqual(tokens.grid(shape, image_size), size)

  @parameterized.parameters(0, 1, 3)
  def test_other_tokens_are_left_out(self, first):
    x = keras.Input((9, 2))
    model = keras.Model(x, tokens.on_grid(x, (2, 3), first))
    values = np.arange(18.0).reshape(1, 9, 2)
    np.testing.assert_array_equal(
      model(values), values[:, first : first + 6].reshape(1, 2, 3, 2)
    )


if __name__ == '__main__':
  absltest.main()
