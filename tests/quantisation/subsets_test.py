"""Layers in int8 alone: all at once is what they are one by one."""

from unittest import mock

import keras
import numpy as np
from absl.testing import absltest, parameterized

from ft_tf.quantisation import subsets
from ft_tf.quantisation import twin as twins
from tests import quantised_networks


def _branched():
  """Returns a network whose branches meet, and one that meets itself."""
  keras.utils.set_random_seed(3)
  image = keras.Input((8, 6, 3))
  x = keras.layers.Rescaling(1 / 255, name='scale')(image)
  x = keras.layers.Conv2D(6, 3, padding='same', name='stem')(x)
  x = keras.layers.ReLU(name='stem_relu')(x)
  gate = keras.layers.GlobalAveragePooling2D(keepdims=True, name='mean')(x)
  gate = keras.layers.Conv2D(6, 1, activation='sigmoid', name='gate')(gate)
  left = keras.layers.Multiply(name='gated')([x, gate])
  right = keras.layers.DepthwiseConv2D(3, padding='same', name='right')(x)
  x = keras.layers.Add(name='meet')([left, right])
  x = keras.layers.Add(name='double')([x, x])
  x = keras.layers.Concatenate(name='join')([x, right])
  x = keras.layers.GlobalAveragePooling2D(name='pool')(x)
  return keras.Model(image, keras.layers.Dense(4, name='logits')(x))


class SubsetsTest(parameterized.TestCase):
  def _twin(self, name):
    if name == 'branched':
      student = _branched()
      images = np.random.default_rng(0).integers(256, size=(9, 8, 6, 3))
      images = images.astype(np.uint8)
    else:
      student = quantised_networks.trained()
      images, _ = quantised_networks.images(9)
    twin = twins.build(student)
    twin.observe(images)
    return twin, images

  @parameterized.parameters('branched', 'trained')
  def test_all_at_once_is_one_by_one(self, name):
    twin, images = self._twin(name)
    names = list(dict.fromkeys(step.role.group for step in twin.steps))
    every = frozenset(names)
    wanted = [frozenset(), every]
    wanted += [frozenset([each]) for each in names]
    wanted += [every - {each} for each in names]
    wanted += [frozenset(names[::2]), frozenset(names[1:4]), every]
    found = np.concatenate(list(subsets.logits(twin, wanted, images)), axis=1)
    self.assertEqual(found.shape[:2], (len(wanted), 9))
    one_by_one = subsets.OneByOne(twin)
    for each, logits in zip(wanted, found, strict=True):
      np.testing.assert_allclose(
        logits, one_by_one.logits(each, images), atol=1e-4, rtol=1e-5
      )
    in_float = twin.student(images, training=False)
    np.testing.assert_allclose(found[0], in_float, atol=1e-4, rtol=1e-4)
    # Most layers change something, and not the same.
    self.assertGreater(len(np.unique(found.round(6), axis=0)), len(names))

  def test_images_in_parts_are_the_same(self):
    twin, images = self._twin('branched')
    wanted = [frozenset(), frozenset(['stem'])]
    (whole,) = subsets.logits(twin, wanted, images)
    with mock.patch.object(subsets, '_MOST_BYTES', 1):
      parts = list(subsets.logits(twin, wanted, images))
    self.assertLen(parts, 9)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=1e-5)

  def test_twin_rounds_all_again_afterwards(self):
    twin, images = self._twin('branched')
    before = twin.model(images, training=False)
    list(subsets.logits(twin, [frozenset()], images))
    subsets.OneByOne(twin).logits(frozenset(), images)
    np.testing.assert_array_equal(twin.model(images, training=False), before)


if __name__ == '__main__':
  absltest.main()
