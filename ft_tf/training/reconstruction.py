"""How well a paraphraser gives feature maps back, streamed over the images."""

from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from ft_tf import factors, losses
from ft_tf.data import example_sets

_AT_ONCE = 250  # images whose maps are held


class Figures:
  """The figures of a paraphraser, from the maps of some images at a time."""

  def __init__(
    self,
    feature: Callable[[tf.Tensor], tf.Tensor],
    paraphraser: factors.Paraphraser,
    kind: str,
  ):
    """Compiles them.

    Args:
      feature: From raw images to the frozen teacher's feature map.
      paraphraser: The model.
      kind: 'l1' or 'l2', the reconstruction loss.
    """
    self._kind = kind

    @tf.function(reduce_retracing=True, autograph=False)
    def compute(images):
      real = tf.cast(feature(images), tf.float32)
      factor = paraphraser.encode(real)
      maps = real, factor, paraphraser.decode(factor)
      return [tf.cast(each, tf.float32) for each in maps]

    self._compute = compute

  def maps(self, images: np.ndarray) -> list[np.ndarray]:
    """Returns maps, factors and reconstructions, `[N, H, W, ...]` each."""
    return [each.numpy() for each in self._compute(tf.constant(images))]

  def reconstruction(self, images: example_sets.Images) -> float:
    """Returns the mean reconstruction loss."""
    total = 0.0
    for real, _, rebuilt in self._parts(images):
      total += self._loss(rebuilt, real)
    return total / len(images)

  def scores(self, images: example_sets.Images) -> dict[str, float | int]:
    """Returns the figures of the result; see `paraphraser.train_paraphraser`.

    The images are gone over twice: the mean map comes first.
    """
    loss, mean, factor_mean = 0.0, 0.0, 0.0
    for real, factor, rebuilt in self._parts(images):
      loss += self._loss(rebuilt, real)
      mean += real.sum(axis=0, dtype=np.float64)
      factor_mean += factor.mean(axis=(1, 2), dtype=np.float64).sum(axis=0)
    mean_map = np.float32(mean / len(images))
    factor_mean /= len(images)
    loss_of_mean, variance = 0.0, 0.0
    for real, factor, _ in self._parts(images):
      loss_of_mean += self._loss(np.broadcast_to(mean_map, real.shape), real)
      variance += ((factor - factor_mean) ** 2).mean(axis=(1, 2)).sum(axis=0)
    spread = np.sqrt(variance / len(images))
    return {
      'reconstruction': loss / len(images),
      'reconstruction_of_mean': loss_of_mean / len(images),
      'dead_factors': int((spread < 0.01 * spread.max()).sum()),
    }

  def _parts(self, images: example_sets.Images) -> Iterator[list[np.ndarray]]:
    for first in range(0, len(images), _AT_ONCE):
      yield self.maps(images[first : first + _AT_ONCE])

  def _loss(self, paraphrased, real):
    """Returns the sum of the images' losses."""
    each = losses.reconstruction(paraphrased, real, self._kind)
    return float(np.sum(each, dtype=np.float64))
