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

  def test_class_token_is_left_out(self):
    x = keras.Input((5, 3))
    model = keras.Model(x, tokens.on_grid(x, (2, 2)))
    values = np.arange(15.0).reshape(1, 5, 3)
    np.testing.assert_array_equal(
      model(values), values[:, 1:].reshape(1, 2, 2, 3)
    )


if __name__ == '__main__':
  absltest.main()
