"""The figures of a paraphraser, which are streamed over the images."""

from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from ft_tf import factors, losses
from ft_tf.training import reconstruction


class FiguresTest(parameterized.TestCase):
  @parameterized.parameters('l1', 'l2')
  def test_figures_are_those_of_all_maps_and_few_maps_are_held(self, kind):
    keras.utils.set_random_seed(0)
    model = factors.Paraphraser(0.5)
    model.build((None, 4, 4, 6))
    # A factor that hardly moves, beside a constant that is large.
    last = model.encoder[-1]
    kernel, bias = last.get_weights()
    kernel[..., 1] *= 1e-4
    bias[1] = 5
    last.set_weights([kernel, bias])
    held = []

    def feature(images):
      # Runs when the graph does, not when it is traced.
      return tf.numpy_function(
        lambda x: held.append(len(x)) or np.float32(x) / 64,
        [images],
        tf.float32,
      )

    figures = reconstruction.Figures(
      lambda images: tf.ensure_shape(feature(images), [None, 4, 4, 6]),
      model,
      kind,
    )
    images = np.random.default_rng(0).integers(256, size=(37, 4, 4, 6))
    images = images.astype(np.uint8)
    with mock.patch.object(reconstruction, '_AT_ONCE', 8):
      scores = figures.scores(images)
      loss = figures.reconstruction(images)
    self.assertEqual(max(held), 8)
    maps = np.float32(images) / 64
    expected = {}
    for name, other in (
      ('reconstruction', np.asarray(model(maps))),
      ('reconstruction_of_mean', maps.mean(axis=0)[None] + 0 * maps),
    ):
      expected[name] = np.mean(losses.reconstruction(other, maps, kind))
      self.assertAlmostEqual(scores[name], expected[name], places=5)
    self.assertAlmostEqual(loss, expected['reconstruction'], places=5)
    spread = np.asarray(model.encode(maps)).std(axis=(0, 1, 2))
    self.assertEqual(
      scores['dead_factors'], (spread < spread.max() / 100).sum()
    )
    self.assertEqual(scores['dead_factors'], 1)


if __name__ == '__main__':
  absltest.main()
