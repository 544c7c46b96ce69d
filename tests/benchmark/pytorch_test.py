"""PyTorch's step equals ft_tf's: the same networks and the same loss."""

import importlib.util

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest

from ft_tf import factors, losses
from ft_tf.benchmark import jobs
from ft_tf.methods import soft_targets
from ft_tf.models import layers, taps, torch_import

_MEAN, _STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


class PyTorchTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    if importlib.util.find_spec('torch') is None:
      self.skipTest('requirements-benchmark.txt is not installed')
    import torch  # noqa: PLC0415

    from ft_tf.benchmark import pytorch, pytorch_networks  # noqa: PLC0415

    torch.manual_seed(0)
    self.torch, self.pytorch = torch, pytorch
    self.networks = pytorch_networks

  def _copy_chain(self, torch_layers, keras_layers):
    """Copies the weights of three PyTorch layers to Keras layers."""
    for layer, torch_layer in zip(keras_layers, torch_layers[::2], strict=True):
      layer.set_weights(
        [
          torch_layer.weight.detach().numpy().transpose(2, 3, 1, 0),
          torch_layer.bias.detach().numpy(),
        ]
      )

  def test_loss_of_the_first_step_is_the_same(self):
    net = self.networks.ResNet(8)
    encoder, translator = (self.networks.chain(64, 32) for _ in range(2))
    model = torch_import.network(
      {name: value.numpy() for name, value in net.state_dict().items()},
      'resnet8',
      layers.Spec((16, 16, 3), 10, _MEAN, _STD),
    )
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(8, 16, 16, 3)).astype(np.uint8)
    labels = rng.integers(10, size=8)
    paraphraser, adapter = factors.Paraphraser(0.5), factors.Translator(32)
    paraphraser.build((None, 4, 4, 64))
    adapter.build((None, 4, 4, 64))
    self._copy_chain(encoder, paraphraser.encoder)
    self._copy_chain(translator, adapter.translate)

    x = self.torch.tensor(
      ((images / 255 - _MEAN) / _STD).transpose(0, 3, 1, 2).astype(np.float32)
    )
    with self.torch.no_grad():
      feature, _ = net.eval()(x)
      teacher_factor = encoder(feature)
      feature, logits = net.train()(x)
      torch_loss = self.pytorch.student_loss(
        logits, self.torch.tensor(labels), translator(feature), teacher_factor
      )

    outputs = taps.logits_and_features(model, ['group3'])
    _, features = outputs(images, training=False)
    signal = paraphraser.encode(features['group3'])
    logits, features = outputs(images, training=True)
    keras_loss = tf.reduce_mean(
      losses.cross_entropy(logits, tf.constant(labels))
      + 500 * losses.factor_transfer(adapter(features['group3']), signal)
    )
    self.assertAlmostEqual(float(keras_loss), float(torch_loss), places=3)

  def test_every_configuration_learns_the_batch(self):
    for changes in (
      {'channels_last': False},
      {},
      {'precision': 'mixed_bfloat16'},
      {'part': 'cached'},
      {'part': 'alone'},
      {'part': 'kd'},
    ):
      run = self.pytorch.make(
        jobs.Job(
          name='x',
          framework='pytorch',
          batch_size=4,
          teacher='resnet8',
          student='resnet8',
          image_size=16,
          **changes,
        )
      )
      first = run(1)
      self.assertLess(run(10), first)

  def test_loss_of_soft_targets_is_that_of_the_library(self):
    rng = np.random.default_rng(0)
    logits, teacher = rng.normal(size=(2, 8, 10)).astype(np.float32)
    labels = rng.integers(10, size=8)
    torch_loss = self.pytorch.soft_target_loss(
      *map(self.torch.tensor, (logits, labels, teacher))
    )
    numbers = soft_targets.SoftTargetsNumbers()
    term = soft_targets.SoftTargets(
      alpha=numbers.kd_alpha, temperature=numbers.temperature
    )
    keras_loss = tf.reduce_mean(
      term.labels_weight * losses.cross_entropy(logits, tf.constant(labels))
      + term.weight
      * term.loss(tf.constant(logits), tf.constant(teacher), labels)
    )
    self.assertAlmostEqual(float(keras_loss), float(torch_loss), places=5)

  def test_factor_layers_have_the_form_of_the_library(self):
    for teacher, student in ((64, 32), (512, 16), (2048, 1280), (64, 576)):
      paraphraser = factors.Paraphraser(0.5)
      paraphraser.build((None, 4, 4, teacher))
      adapter = factors.Translator(teacher // 2)
      adapter.build((None, 4, 4, student))
      for channels, ours in (
        (teacher, paraphraser.encoder),
        (student, adapter.translate),
      ):
        with self.torch.device('meta'):
          theirs = self.networks.chain(channels, teacher // 2)
        self.assertEqual(
          [tuple(layer.kernel.shape) for layer in ours],
          [
            (*layer.kernel_size, layer.in_channels, layer.out_channels)
            for layer in theirs[::2]
          ],
        )

  def test_maps_of_two_sizes_are_averaged_to_the_smaller(self):
    networks = self.pytorch.Networks(jobs.Job(name='', image_size=16))
    networks.map_shapes = {'teacher': (8, 4, 4), 'student': (6, 2, 4)}
    x = self.torch.arange(16.0).reshape(1, 1, 4, 4)
    self.assertEqual(networks.to_common_size(x).shape, (1, 1, 2, 4))
    np.testing.assert_array_equal(
      networks.to_common_size(x)[0, 0, 0], [2, 3, 4, 5]
    )

  def test_network_has_the_published_number_of_parameters(self):
    net = self.networks.ResNet(20)
    # The paper's public code: ResNet-20 has 272,474 parameters.
    self.assertEqual(sum(p.numel() for p in net.parameters()), 272_474)
    keras.backend.clear_session()


if __name__ == '__main__':
  absltest.main()
