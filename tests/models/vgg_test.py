"""VGG-13 with batch norm: size, features and initial values."""

import keras
import numpy as np
from absl.testing import absltest, parameterized

from ft_tf.models import layers, vgg


def _spec(image_shape=(32, 32, 3), classes=10):
  channels = image_shape[-1]
  return layers.Spec(
    image_shape=image_shape,
    classes=classes,
    mean=(0.5,) * channels,
    std=(0.25,) * channels,
  )


class VGG13Test(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    keras.utils.set_random_seed(0)
    cls._model = vgg.vgg13(_spec())

  def test_parameters_equal_those_of_one_dense_layer_and_10_classes(self):
    parameters = sum(
      int(np.prod(weight.shape)) for weight in self._model.trainable_weights
    )
    self.assertEqual(parameters, 9_416_010)

  @parameterized.parameters(
    ((32, 32, 3), [(32, 32), (16, 16), (8, 8), (4, 4), (2, 2)]),
    ((64, 40, 1), [(64, 40), (32, 20), (16, 10), (8, 5), (4, 2)]),
  )
  def test_groups_are_the_maps_before_each_pooling(self, shape, sizes):
    model = vgg.vgg13(_spec(shape, classes=4))
    for group, (size, channels) in enumerate(
      zip(sizes, (64, 128, 256, 512, 512), strict=True), start=1
    ):
      layer = model.get_layer(f'group{group}')
      self.assertIsInstance(layer, keras.layers.ReLU)
      self.assertEqual(layer.output.shape, (None, *size, channels))
    self.assertEqual(model.output_shape, (None, 4))

  def test_raw_images_of_any_batch_give_float32_logits(self):
    rng = np.random.default_rng(0)
    for batch in (1, 2):
      images = rng.integers(256, size=(batch, 32, 32, 3)).astype(np.uint8)
      logits = self._model(images).numpy()
      self.assertEqual(logits.shape, (batch, 10))
      self.assertEqual(logits.dtype, np.float32)
      self.assertTrue(np.isfinite(logits).all())

  def test_pooling_takes_the_maximum_of_2x2(self):
    maps = keras.Model(
      self._model.input,
      [self._model.get_layer(name).output for name in ('group1', 'g1_pool')],
    )
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(1, 32, 32, 3)).astype(np.uint8)
    before, after = (each.numpy() for each in maps(images))
    blocks = before.reshape(1, 16, 2, 16, 2, 64)
    np.testing.assert_array_equal(after, blocks.max(axis=(2, 4)))

  def test_ten_convolutions_have_bias_and_pytorchs_bounds(self):
    found = [
      layer
      for layer in self._model.layers
      if isinstance(layer, keras.layers.Conv2D)
    ]
    self.assertLen(found, 10)
    for layer in found:
      bound = 1 / np.sqrt(np.prod(layer.kernel.shape[:-1]))
      for weight in (layer.kernel, layer.bias):
        largest = np.abs(weight.numpy()).max()
        self.assertBetween(largest, 0.9 * bound, bound * (1 + 1e-6))

  def test_batch_norm_has_pytorchs_constants(self):
    found = [
      layer
      for layer in self._model.layers
      if isinstance(layer, keras.layers.BatchNormalization)
    ]
    self.assertLen(found, 10)
    for layer in found:
      self.assertEqual((layer.epsilon, layer.momentum), (1e-5, 0.9))

  def test_config_needs_no_code_of_ours(self):
    self.assertNotIn('ft_tf', self._model.to_json())


if __name__ == '__main__':
  absltest.main()
