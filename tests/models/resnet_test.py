"""ResNets: sizes, features, shortcuts and initial values."""

import os

import keras
import numpy as np
from absl.testing import absltest, parameterized

from ft_tf.models import layers, resnet


def _spec(image_shape=(32, 32, 3), classes=10, **values):
  channels = image_shape[-1]
  return layers.Spec(
    image_shape=image_shape,
    classes=classes,
    mean=(0.5,) * channels,
    std=(0.25,) * channels,
    **values,
  )


def _trained(model):
  """Returns the number of weights that training moves."""
  return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def _images(*shape):
  return np.random.default_rng(0).integers(256, size=shape).astype(np.uint8)


def _features(model, *names):
  return keras.Model(
    model.input, [model.get_layer(name).output for name in names]
  )


class ResNetTest(parameterized.TestCase):
  # Counted in the public PyTorch code, 10 classes.
  @parameterized.parameters((20, 272_474), (56, 855_770), (110, 1_730_714))
  def test_parameters_equal_the_public_codes(self, depth, parameters):
    model = resnet.resnet(_spec(), depth=depth)
    self.assertEqual(_trained(model), parameters)

  def test_parameter_free_shortcuts_save_just_the_projections(self):
    model = resnet.resnet(_spec(), depth=20, projection=False)
    projections = (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)
    self.assertEqual(_trained(model), 272_474 - projections)

  def test_depth_is_the_number_of_layers_with_kernels(self):
    model = resnet.resnet(_spec(), depth=20, projection=False)
    kernels = [w for w in model.trainable_weights if w.name == 'kernel']
    self.assertLen(kernels, 20)

  @parameterized.parameters(
    ((32, 32, 3), [(32, 32), (16, 16), (8, 8)]),
    ((8, 8, 1), [(8, 8), (4, 4), (2, 2)]),
    ((15, 10, 3), [(15, 10), (8, 5), (4, 3)]),  # PyTorch's sizes: halves up.
  )
  def test_groups_halve_the_image_and_double_the_channels(self, shape, sizes):
    for projection in (True, False):
      model = resnet.resnet(_spec(shape), depth=8, projection=projection)
      names = ['group1', 'group2', 'group3']
      maps = _features(model, *names)(_images(2, *shape))
      for each, size, channels in zip(maps, sizes, (16, 32, 64), strict=True):
        self.assertEqual(each.shape, (2, *size, channels))
        self.assertGreaterEqual(each.numpy().min(), 0)  # After its ReLU.
        self.assertGreater(each.numpy().max(), 0)

  def test_width_scales_all_channels(self):
    model = resnet.resnet(_spec((8, 8, 1)), depth=8, width=0.25)
    shapes = [model.get_layer(f'group{g}').output.shape[-1] for g in (1, 2, 3)]
    self.assertEqual(shapes, [4, 8, 16])

  @parameterized.parameters(1.0, 0.3)  # 0.3: 5, 10 and 19 channels.
  def test_parameter_free_shortcut_subsamples_and_pads_half_before(self, width):
    model = resnet.resnet(
      _spec((9, 8, 3)), depth=8, width=width, projection=False
    )
    # The block's sum less its second convolution's branch is the shortcut.
    x, y, total = _features(model, 'group1', 'g2b1_bn2', 'g2b1_add')(
      _images(2, 9, 8, 3)
    )
    extra = y.shape[-1] - x.shape[-1]
    before = extra // 2
    shortcut = np.pad(
      x.numpy()[:, ::2, ::2],
      ((0, 0), (0, 0), (0, 0), (before, extra - before)),
    )
    np.testing.assert_allclose(total - y, shortcut, atol=1e-5)

  def test_block_without_a_change_of_shape_adds_its_input(self):
    model = resnet.resnet(_spec((8, 8, 3)), depth=14, width=0.25)
    x, y, out = _features(model, 'g1b1_relu2', 'g1b2_bn2', 'group1')(
      _images(2, 8, 8, 3)
    )
    np.testing.assert_allclose(out, np.maximum(x + y, 0), atol=1e-5)

  def test_logits_are_float32_and_the_batch_is_flexible(self):
    model = resnet.resnet(_spec((8, 8, 1), classes=4), depth=8, width=0.25)
    self.assertEqual(model.input_shape, (None, 8, 8, 1))
    self.assertEqual(model.output_shape, (None, 4))
    self.assertEqual(model.input.dtype, 'uint8')
    for batch in (1, 3):
      logits = model(_images(batch, 8, 8, 1))
      self.assertEqual(logits.shape, (batch, 4))
      self.assertEqual(logits.dtype, 'float32')

  def test_every_batch_norm_has_pytorchs_constants(self):
    model = resnet.resnet(_spec(sync_batch_norm=True), depth=8)
    found = [
      layer
      for layer in model.layers
      if isinstance(layer, keras.layers.BatchNormalization)
    ]
    self.assertLen(found, 9)  # 1 + 3 blocks of 2 + 2 projections.
    for layer in found:
      self.assertEqual(layer.epsilon, 1e-5)
      self.assertEqual(layer.momentum, 0.9)
      self.assertTrue(layer.synchronized)

  def test_every_kernel_fills_one_over_root_fan_in_and_no_more(self):
    keras.utils.set_random_seed(0)
    model = resnet.resnet(_spec((8, 8, 3)), depth=8)
    for weight in model.trainable_weights:
      if weight.name == 'kernel':
        largest = np.abs(weight.numpy()).max()
        bound = 1 / np.sqrt(np.prod(weight.shape[:-1]))
        with self.subTest(weight.path):
          self.assertBetween(largest, 0.9 * bound, bound * (1 + 1e-6))

  def test_saved_file_needs_no_code_of_ours_and_gives_the_same_logits(self):
    for projection in (True, False):
      model = resnet.resnet(
        _spec((8, 8, 1)), depth=8, width=0.25, projection=projection
      )
      path = os.path.join(self.create_tempdir().full_path, 'model.keras')
      model.save(path)
      loaded = keras.models.load_model(path, compile=False, safe_mode=True)
      self.assertNotIn('ft_tf', loaded.to_json())
      x = _images(3, 8, 8, 1)
      np.testing.assert_allclose(loaded(x), model(x), atol=1e-6)
      self.assertEqual(
        [layer.name for layer in loaded.layers],
        [layer.name for layer in model.layers],
      )


class ImagenetResNetTest(parameterized.TestCase):
  # torchvision's documentation, 1,000 classes.
  @parameterized.parameters((18, 11_689_512), (34, 21_797_672))
  def test_parameters_equal_torchvisions(self, depth, parameters):
    model = resnet.imagenet_resnet(_spec((64, 64, 3), 1000), depth=depth)
    self.assertEqual(_trained(model), parameters)

  def test_groups_are_a_quarter_to_a_32nd_of_the_image(self):
    model = resnet.imagenet_resnet(_spec((224, 224, 3), 1000), depth=18)
    features = _features(model, *(f'group{i}' for i in (1, 2, 3, 4)))
    self.assertEqual(
      [output.shape[1:] for output in features.outputs],
      [(56, 56, 64), (28, 28, 128), (14, 14, 256), (7, 7, 512)],
    )

  def test_first_kernel_is_hes_of_the_fan_out(self):
    keras.utils.set_random_seed(0)
    model = resnet.imagenet_resnet(_spec((64, 64, 3)), depth=18)
    kernel = model.get_layer('g4b2_conv2').kernel.numpy()
    # 2.4 million values: their spread is known to a thousandth.
    wanted = (2 / (9 * 512)) ** 0.5
    self.assertAlmostEqual(kernel.std() / wanted, 1, delta=0.01)


if __name__ == '__main__':
  absltest.main()
