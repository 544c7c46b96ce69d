"""The draws that loading a model takes from the seeds of what comes later."""

import os
import random

import keras
from absl.testing import absltest

from ft_tf.models import model_files, seeds


def _network():
  image = keras.Input((8, 8, 1))
  x = keras.layers.Conv2D(4, 3)(image)
  x = keras.layers.GlobalAveragePooling2D()(x)
  return keras.Model(image, keras.layers.Dense(3)(x))


class DrawsTest(absltest.TestCase):
  def test_draws_of_keras_are_counted_and_still_taken(self):
    keras.utils.set_random_seed(3)
    _network()
    expected = random.getstate()
    keras.utils.set_random_seed(3)
    with seeds.counted_draws() as outer:
      with seeds.counted_draws() as inner:
        _network()
      _network()
    # One for each kernel: the biases' initializer, zeros, draws nothing.
    self.assertEqual((inner.count, outer.count), (2, 4))
    keras.utils.set_random_seed(3)
    with seeds.counted_draws():
      _network()
    self.assertEqual(random.getstate(), expected)

  def test_skipped_draws_stand_for_loading(self):
    path = os.path.join(self.create_tempdir().full_path, 'network.keras')
    _network().save(path)
    keras.utils.set_random_seed(5)
    keras.models.load_model(path)
    expected = _network().get_weights()
    loaded = model_files.load(path)
    keras.utils.set_random_seed(5)
    seeds.skip_draws(model_files.seed_draws(loaded))
    for weight, other in zip(expected, _network().get_weights(), strict=True):
      self.assertEqual(weight.tolist(), other.tolist())

  def test_what_draws_in_another_way_cannot_be_repeated(self):
    random.seed(1)
    with seeds.counted_draws() as draws:
      random.seed(7)
    self.assertEqual(draws.count, 0)


if __name__ == '__main__':
  absltest.main()
