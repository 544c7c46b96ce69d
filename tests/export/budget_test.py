"""The untrained student tells what the trained one will take."""

import functools
from unittest import mock

import keras
import numpy as np
import pytest
from absl.testing import absltest

from ft_tf import errors
from ft_tf.export import budget, convert
from ft_tf.models import layers, zoo
from tests import networks

_SPEC = layers.Spec((16, 16, 1), 3, (0.5,), (0.25,), precision='mixed_bfloat16')
_IMAGES = networks.images(8, 16, 1)


class BudgetTest(absltest.TestCase):
  @pytest.mark.slow
  def test_file_is_as_large_as_that_of_a_trained_network(self):
    its = budget.measure('resnet8x0.25', _SPEC, _IMAGES)
    keras.utils.set_random_seed(3)
    other = networks.disturb(zoo.build('resnet8x0.25', _SPEC))
    content = convert.tflite_int8(
      convert.float32_twin(other, 'float32'), _IMAGES
    )
    self.assertAlmostEqual(its.bytes, len(content), delta=0.01 * its.bytes)
    self.assertGreater(its.latency_ms, 0)
    self.assertEqual(
      its.parameters,
      sum(int(np.prod(w.shape)) for w in other.trainable_weights),
    )

  def test_largest_that_fits_is_chosen_and_larger_ones_are_left(self):
    names = ('resnet8x0.25', 'resnet8x0.5', 'resnet8', 'resnet14')
    measure = budget.measure

    @functools.cache
    def measure_once(name):
      return measure(name, _SPEC, _IMAGES)

    self.enter_context(
      mock.patch.object(
        budget, 'measure', lambda name, spec, images: measure_once(name)
      )
    )
    small = measure_once(names[1]).bytes
    limits = budget.Limits(max_bytes=small)
    best, found = budget.choose(names, _SPEC, _IMAGES, limits)
    self.assertEqual(best.name, 'resnet8x0.5')
    self.assertEqual([each.name for each in found], list(names[:3]))
    with self.assertRaisesRegex(errors.UsageError, 'raise --max_bytes'):
      budget.choose(names, _SPEC, _IMAGES, budget.Limits(max_bytes=100))
    with self.assertRaisesRegex(errors.UsageError, 'smallest is resnet8x0.25'):
      budget.choose(names, _SPEC, _IMAGES, budget.Limits(max_latency_ms=1e-9))

  @pytest.mark.slow
  def test_choice_stands_for_the_same_family_and_limits(self):
    limits = budget.Limits(max_bytes=20_000)
    choice = budget.settle('resnet20x0.25', _SPEC, _IMAGES, limits)
    self.assertEqual(choice['student'], 'resnet8x0.25')
    known = {**choice, 'student': 'resnet14x0.25'}  # as if measured otherwise
    same = budget.settle('resnet8x0.25', _SPEC, _IMAGES, limits, known=known)
    self.assertEqual(same['student'], 'resnet14x0.25')
    other = budget.settle(
      'resnet8x0.25',
      _SPEC,
      _IMAGES,
      budget.Limits(max_bytes=19_999),
      known=known,
    )
    self.assertEqual(other['student'], 'resnet8x0.25')

  def test_limit_that_is_no_limit_is_refused(self):
    with self.assertRaisesRegex(errors.UsageError, '--max_bytes=0'):
      budget.Limits(max_bytes=0)


if __name__ == '__main__':
  absltest.main()
