"""Limits of a student's files: what is refused, and one form for each."""

from absl.testing import absltest

from ft_tf import errors
from ft_tf.export import device_limits


class LimitsTest(absltest.TestCase):
  def test_limit_that_is_no_limit_is_refused(self):
    for limits, message in (
      ({'max_bytes': 0}, '--max_bytes=0: give a number above 0'),
      ({'max_ram': '-3'}, '--max_ram=-3: give'),
      ({'max_latency_ms': 'nan'}, '--max_latency_ms=nan: give'),
      ({'max_latency_ms': 'fast'}, 'such as --max_latency_ms=fp32:2'),
      ({'max_latency_ms': 'fp32:'}, '--max_latency_ms=fp32:: give'),
      ({'max_latency_ms': 'inf'}, '--max_latency_ms=inf: give'),
      ({'max_bytes': 'fp23:9'}, 'no format fp23.*fp32'),
      ({'max_bytes': 'a:int8:9'}, 'no format a:int8'),
      ({'max_ram': 'onnx:9'}, 'onnx is run without a tensor arena'),
      ({'max_bytes': 'mixed:9'}, 'the student has learned; give int8'),
    ):
      with self.subTest(limits):
        with self.assertRaisesRegex(errors.UsageError, message):
          device_limits.Limits(**limits)

  def test_limits_are_the_same_however_they_are_written(self):
    self.assertEqual(
      device_limits.Limits('int8:30000', '2.0', 'fp16:1e6').as_json(),
      {
        'max_bytes': 30_000,
        'max_latency_ms': 2,
        'max_ram': 'fp16:1000000',
      },
    )
    self.assertEqual(
      device_limits.Limits(max_bytes=30_000.0).as_json(),
      device_limits.Limits(max_bytes='30000').as_json(),
    )
    self.assertEqual(device_limits.Limits().formats(), ['int8'])


if __name__ == '__main__':
  absltest.main()
