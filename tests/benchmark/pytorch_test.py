"""PyTorch's step equals ft_tf's: the same networks and the same loss."""

import importlib.util
import os

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest

from ft_tf import factors, losses
from ft_tf.benchmark import jobs
from ft_tf.models import layers, taps, torch_import

_MEAN, _STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


class PyTorchTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    if importlib.util.find_spec('torch') is None:
      self.skipTest('requirements-benchmark.txt is not installed')
    import torch  # noqa: PLC0415

    from ft_tf.benchmark import pytorch  # noqa: PLC0415

    torch.manual_seed(0)
    self.torch, self.pytorch = torch, pytorch

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
    net = self.pytorch.ResNet(8)
    encoder, translator = (self.pytorch.chain(64, 32) for _ in range(2))
    path = os.path.join(self.create_tempdir().full_path, 'net.npz')
    np.savez(path, **{k: v.numpy() for k, v in net.state_dict().items()})
    model = torch_import.resnet_from_npz(
      path, 'resnet8', layers.Spec((16, 16, 3), 10, _MEAN, _STD)
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

  def test_network_has_the_published_number_of_parameters(self):
    net = self.pytorch.ResNet(20)
    # The paper's public code: ResNet-20 has 272,474 parameters.
    self.assertEqual(sum(p.numel() for p in net.parameters()), 272_474)
    keras.backend.clear_session()


if __name__ == '__main__':
  absltest.main()
