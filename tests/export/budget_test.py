"""The untrained student tells what the trained one will take."""

from unittest import mock

import keras
import numpy as np
import pytest
from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.export import budget, convert, device_limits, formats
from ft_tf.models import layers, zoo
from tests import networks

_SPEC = layers.Spec((16, 16, 1), 3, (0.5,), (0.25,), precision='mixed_bfloat16')
_IMAGES = networks.images(8, 16, 1)


_NAMES = ('resnet8x0.25', 'resnet8x0.5', 'resnet8', 'resnet14')


class BudgetTest(parameterized.TestCase):
  @pytest.mark.slow
  def test_file_is_as_large_as_that_of_a_trained_network(self):
    its = budget.measure('resnet8x0.25', _SPEC, _IMAGES)
    file = its.files['int8']
    keras.utils.set_random_seed(3)
    other = networks.disturb(zoo.build('resnet8x0.25', _SPEC))
    content = formats.FORMATS['int8'].make(
      formats.Source(convert.float32_twin(other, 'float32'), _IMAGES)
    )
    self.assertAlmostEqual(
      file['bytes'], len(content), delta=0.01 * file['bytes']
    )
    self.assertGreater(file['latency_ms'], 0)
    self.assertGreater(file['arena_bytes'], 0)
    self.assertEqual(
      its.parameters,
      sum(int(np.prod(w.shape)) for w in other.trainable_weights),
    )

  def _measured(self):
    """Lets candidates grow by 10 kB and 1 ms; float32 is four times int8."""

    def measure(name, spec, images, names, *, label_names):
      del spec, images, label_names
      size = 1 + _NAMES.index(name)
      files = {
        each: {
          'bytes': 10_000 * size * (1 if each == 'int8' else 4),
          'latency_ms': float(size) * (1 if each == 'fp32' else 2),
          'arena_bytes': 1000 * size,
        }
        for each in names
      }
      return budget.Candidate(name, 100 * size, files)

    return self.enter_context(
      mock.patch.object(budget, 'measure', side_effect=measure)
    )

  def test_largest_that_fits_is_chosen_and_larger_ones_are_left(self):
    measured = self._measured()
    limits = device_limits.Limits(max_bytes=20_000)
    best, found = budget.choose(_NAMES, _SPEC, _IMAGES, limits)
    self.assertEqual(best.name, _NAMES[1])
    self.assertEqual([each.name for each in found], list(_NAMES[:3]))
    self.assertEqual(measured.call_count, 3)

  @parameterized.parameters(
    ({'max_latency_ms': 2}, ['int8'], 0),
    ({'max_latency_ms': 'fp32:2'}, ['fp32'], 1),
    ({'max_latency_ms': 'fp32:3', 'max_bytes': 20_000}, ['fp32', 'int8'], 1),
    ({'max_latency_ms': 'fp32:3', 'max_bytes': 'fp32:9e4'}, ['fp32'], 1),
    ({'max_ram': 'fp32:3000'}, ['fp32'], 2),
    ({'max_ram': 1000}, ['int8'], 0),
  )
  def test_limit_is_of_the_file_that_it_names(self, given, names, chosen):
    self._measured()
    limits = device_limits.Limits(**given)
    best, _ = budget.choose(_NAMES, _SPEC, _IMAGES, limits)
    self.assertEqual(best.name, _NAMES[chosen])
    self.assertEqual(list(best.files), names)

  def test_limits_that_none_meets_name_the_smallest(self):
    self._measured()
    for given, message in (
      (
        {'max_bytes': 100},
        'smallest is resnet8x0.25, 100 parameters; int8: 10,000 bytes, 2.000 '
        'ms, arena of 1,000 bytes: raise --max_bytes, or',
      ),
      (
        {'max_latency_ms': 'fp32:0.5', 'max_ram': 9},
        'fp32: 40,000 bytes, 1.000 ms.*raise --max_latency_ms or --max_ram, or',
      ),
    ):
      with self.assertRaisesRegex(errors.UsageError, message):
        budget.choose(_NAMES, _SPEC, _IMAGES, device_limits.Limits(**given))

  @pytest.mark.slow
  def test_choice_stands_for_the_same_family_and_limits(self):
    limits = device_limits.Limits(max_bytes=20_000)
    choice = budget.settle('resnet20x0.25', _SPEC, _IMAGES, limits)
    self.assertEqual(choice['student'], 'resnet8x0.25')
    known = {**choice, 'student': 'resnet14x0.25'}  # as if measured otherwise
    same = budget.settle('resnet8x0.25', _SPEC, _IMAGES, limits, known=known)
    self.assertEqual(same['student'], 'resnet14x0.25')
    for other, most in (
      (known, 19_999),
      ({**choice, 'student': 'vgg8'}, 20_000),  # of another family
    ):
      chosen = budget.settle(
        'resnet8x0.25',
        _SPEC,
        _IMAGES,
        device_limits.Limits(max_bytes=most),
        known=other,
      )
      self.assertEqual(chosen['student'], 'resnet8x0.25')


if __name__ == '__main__':
  absltest.main()
