"""Files of one image, evaluated many at a time where that is the same."""

import keras
import numpy as np
from absl.testing import absltest

from ft_tf.export import convert
from tests import tflite_predictors


def _network(*, holds_on):
  """Returns a network; one that holds on works on single images alone."""
  keras.utils.set_random_seed(0)
  image = keras.Input((6, 6, 3), dtype='uint8')
  x = keras.layers.Conv2D(4, 3)(keras.layers.Rescaling(1 / 255)(image))
  if holds_on:
    x = keras.ops.reshape(x, (1, 8, 8, 1))
    x = keras.layers.Conv2D(2, 3)(x)
  x = keras.layers.GlobalMaxPooling2D()(x)
  return keras.Model(image, keras.layers.Dense(3)(x))


class LiteRTPredictorTest(absltest.TestCase):
  def _predict(self, model):
    return tflite_predictors.predictor(self, convert.tflite_float32(model))

  def test_batch_of_one_that_resizes_is_evaluated_at_once(self):
    model = _network(holds_on=False)
    predict = self._predict(model)
    images = np.random.default_rng(0).integers(256, size=(7, 6, 6, 3))
    images = images.astype(np.uint8)
    for count in (7, 1, 3):
      np.testing.assert_allclose(
        predict(images[:count]), model(images[:count]), atol=1e-4
      )
    (details,) = predict.interpreter.get_input_details()
    self.assertEqual(details['shape'][0], 3)
    self.assertFalse(predict.flexible_batch)

  def test_batch_of_one_that_does_not_resize_goes_image_by_image(self):
    model = _network(holds_on=True)
    predict = self._predict(model)
    images = np.random.default_rng(0).integers(256, size=(5, 6, 6, 3))
    images = images.astype(np.uint8)
    wanted = np.concatenate([model(images[i : i + 1]) for i in range(5)])
    for _ in range(2):
      np.testing.assert_allclose(predict(images), wanted, atol=1e-4)


if __name__ == '__main__':
  absltest.main()
