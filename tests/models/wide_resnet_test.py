"""Wide ResNets: sizes, features and the order of a block."""

import os

import keras
import numpy as np
from absl.testing import absltest, parameterized

from ft_tf.models import layers, wide_resnet


def _spec(image_shape=(32, 32, 3), classes=10):
  channels = image_shape[-1]
  return layers.Spec(
    image_shape=image_shape,
    classes=classes,
    mean=(0.5,) * channels,
    std=(0.25,) * channels,
  )


def _images(*shape):
  return np.random.default_rng(0).integers(256, size=shape).astype(np.uint8)


def _features(model, *names):
  return keras.Model(
    model.input, [model.get_layer(name).output for name in names]
  )


def _numpy_norm_relu(x):
  """A fresh batch norm in inference, and ReLU."""
  return np.maximum(x / np.sqrt(1 + 1e-5), 0)


class WideResNetTest(parameterized.TestCase):
  # Counted in the original architecture, 10 classes.
  @parameterized.parameters(
    (40, 1, 563_930), (16, 1, 175_066), (16, 2, 691_674), (46, 4, 10_499_290)
  )
  def test_parameters_equal_the_papers_networks(self, depth, width, parameters):
    model = wide_resnet.wide_resnet(_spec(), depth=depth, width=width)
    self.assertEqual(
      sum(int(np.prod(w.shape)) for w in model.trainable_weights), parameters
    )

  @parameterized.parameters(
    ((32, 32, 3), [(32, 32), (16, 16), (8, 8)]),
    ((8, 8, 1), [(8, 8), (4, 4), (2, 2)]),
    ((15, 10, 3), [(15, 10), (8, 5), (4, 3)]),
  )
  def test_groups_halve_the_image_and_double_the_channels(self, shape, sizes):
    model = wide_resnet.wide_resnet(_spec(shape), depth=10, width=2)
    maps = _features(model, 'group1', 'group2', 'group3')(_images(2, *shape))
    for each, size, channels in zip(maps, sizes, (32, 64, 128), strict=True):
      self.assertEqual(each.shape, (2, *size, channels))

  def test_last_group_is_after_batch_norm_and_relu(self):
    model = wide_resnet.wide_resnet(_spec((8, 8, 3)), depth=10, width=1)
    total, last = _features(model, 'g3b1_add', 'group3')(_images(2, 8, 8, 3))
    np.testing.assert_allclose(last, _numpy_norm_relu(total), atol=1e-5)
    self.assertGreater(last.numpy().max(), 0)

  def test_block_normalises_first_and_its_projection_sees_that_too(self):
    model = wide_resnet.wide_resnet(_spec((8, 8, 3)), depth=10, width=1)
    x, first, shortcut, second, total = _features(
      model, 'group1', 'g2b1_relu1', 'g2b1_shortcut', 'g2b1_conv2', 'group2'
    )(_images(2, 8, 8, 3))
    np.testing.assert_allclose(first, _numpy_norm_relu(x), atol=1e-5)
    kernel = model.get_layer('g2b1_shortcut').kernel[0, 0]
    np.testing.assert_allclose(
      shortcut, first.numpy()[:, ::2, ::2] @ kernel, atol=1e-5
    )
    np.testing.assert_allclose(total, shortcut + second, atol=1e-5)

  def test_block_of_one_shape_adds_its_unnormalised_input(self):
    model = wide_resnet.wide_resnet(_spec((8, 8, 3)), depth=16, width=1)
    x, y, total = _features(model, 'g1b1_add', 'g1b2_conv2', 'group1')(
      _images(2, 8, 8, 3)
    )
    np.testing.assert_allclose(total, x + y, atol=1e-5)

  def test_batch_norm_and_kernels_have_pytorchs_constants(self):
    keras.utils.set_random_seed(0)
    model = wide_resnet.wide_resnet(_spec((8, 8, 3)), depth=10, width=1)
    norms = [
      layer
      for layer in model.layers
      if isinstance(layer, keras.layers.BatchNormalization)
    ]
    self.assertLen(norms, 7)
    for layer in norms:
      self.assertEqual((layer.epsilon, layer.momentum), (1e-5, 0.9))
    for weight in model.trainable_weights:
      if weight.name == 'kernel':
        largest = np.abs(weight.numpy()).max()
        bound = 1 / np.sqrt(np.prod(weight.shape[:-1]))
        self.assertBetween(largest, 0.9 * bound, bound * (1 + 1e-6))

  def test_saved_file_needs_no_code_of_ours_and_gives_the_same_logits(self):
    model = wide_resnet.wide_resnet(
      _spec((8, 8, 1), classes=4), depth=10, width=1
    )
    path = os.path.join(self.create_tempdir().full_path, 'model.keras')
    model.save(path)
    loaded = keras.models.load_model(path, compile=False, safe_mode=True)
    self.assertNotIn('ft_tf', loaded.to_json())
    self.assertEqual(loaded.output_shape, (None, 4))
    for batch in (1, 3):
      x = _images(batch, 8, 8, 1)
      np.testing.assert_allclose(loaded(x), model(x), atol=1e-6)


if __name__ == '__main__':
  absltest.main()
