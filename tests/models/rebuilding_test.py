"""A rebuilt model computes the same, in the precision that is asked for."""

import keras
import numpy as np
from absl.testing import absltest

from ft_tf.models import rebuilding
from tests import networks


@keras.saving.register_keras_serializable('tests')
class Scale(keras.layers.Layer):
  """A user's layer that leaves its precision to Keras's default."""

  def __init__(self, name=None):
    super().__init__(name=name)

  def build(self, shape):
    self.factor = self.add_weight(shape=(shape[-1],), initializer='ones')

  def call(self, x):
    return x * keras.ops.cast(self.factor, x.dtype)

  def get_config(self):
    return {'name': self.name}


class RebuildTest(absltest.TestCase):
  def test_layers_of_a_user_follow_and_the_default_stays(self):
    image = keras.Input((4, 4, 3))
    x = Scale()(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(2)(x))
    networks.disturb(model)
    copy = rebuilding.rebuild(model, precision='mixed_bfloat16')
    self.assertEqual(
      [layer.compute_dtype for layer in copy.layers[1:]],
      ['bfloat16', 'bfloat16', 'float32'],
    )
    self.assertEqual(keras.config.dtype_policy().name, 'float32')
    images = networks.images(2, 4, 3).astype(np.float32)
    wanted = model(images).numpy()
    # bfloat16 keeps 8 bits of each product; a logit is a sum of products that
    # may cancel, so its error is relative to the largest of them.
    largest = np.abs(wanted).max()
    np.testing.assert_allclose(copy(images), wanted, atol=0.02 * largest)

  def test_copy_equals_and_shares_no_weight(self):
    model = networks.disturb(networks.random_student((8, 8, 1), 3))
    copy = rebuilding.rebuild(model, precision='float32', synchronized=True)
    images = networks.images(2, 8, 1)
    wanted = model(images).numpy()
    np.testing.assert_array_equal(copy(images), wanted)
    copy.set_weights([0 * each for each in copy.get_weights()])
    np.testing.assert_array_equal(model(images), wanted)


if __name__ == '__main__':
  absltest.main()
