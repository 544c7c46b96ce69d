"""PyTorch's step is ours: the same networks and the same loss."""

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

  def _chain(self, theirs, ours):
    """Gives our three layers the weights of PyTorch's."""
    for layer, theirs_layer in zip(ours, theirs[::2], strict=True):
      layer.set_weights(
        [
          theirs_layer.weight.detach().numpy().transpose(2, 3, 1, 0),
          theirs_layer.bias.detach().numpy(),
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
    paraphraser, ours = factors.Paraphraser(0.5), factors.Translator(32)
    paraphraser.build((None, 4, 4, 64))
    ours.build((None, 4, 4, 64))
    self._chain(encoder, paraphraser.encoder)
    self._chain(translator, ours.translate)

    x = self.torch.tensor(
      ((images / 255 - _MEAN) / _STD).transpose(0, 3, 1, 2).astype(np.float32)
    )
    with self.torch.no_grad():
      feature, _ = net.eval()(x)
      said = encoder(feature)
      feature, logits = net.train()(x)
      theirs = self.pytorch.student_loss(
        logits, self.torch.tensor(labels), translator(feature), said
      )

    outputs = taps.logits_and_features(model, ['group3'])
    _, features = outputs(images, training=False)
    signal = paraphraser.encode(features['group3'])
    logits, features = outputs(images, training=True)
    found = tf.reduce_mean(
      losses.cross_entropy(logits, tf.constant(labels))
      + 500 * losses.factor_transfer(ours(features['group3']), signal)
    )
    self.assertAlmostEqual(float(found), float(theirs), places=3)

  def test_every_way_takes_steps_and_learns_the_batch(self):
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

  def test_kernels_are_the_same_number(self):
    net = self.pytorch.ResNet(20)
    # The paper's public code: ResNet-20 has 272,474 parameters.
    self.assertEqual(sum(p.numel() for p in net.parameters()), 272_474)
    keras.backend.clear_session()


if __name__ == '__main__':
  absltest.main()
