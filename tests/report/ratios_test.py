"""Ratios of student and teacher, in both directions."""

from absl.testing import absltest

from ft_tf.report import ratios, summary


def _row(method, accuracy, parameters, size=None, milliseconds=None):
  export = None
  if size:
    export = {
      'student_int8.tflite': {
        'bytes': size,
        'latency_ms': {'p50': milliseconds},
      }
    }
  return summary.Row(method, (accuracy,), parameters, export)


class CompareTest(absltest.TestCase):
  def test_known_ratios(self):
    found = ratios.compare(
      _row('teacher', 0.95, 1_400_000, 9_420_800, 8.1),
      _row('ft', 0.93, 100_000, 1_024_000, 1.0),
    )
    self.assertEqual(
      found,
      [
        ('-2.00', 'points of test accuracy', '93.00 %; teacher 95.00 %'),
        ('14x', 'fewer parameters', '100,000; teacher 1,400,000'),
        ('9.2x', 'smaller int8 file', '1,000.0 KiB; teacher 9,200.0 KiB'),
        ('8.1x', 'faster as int8 file', '1.000 ms; teacher 8.100 ms'),
      ],
    )

  def test_student_that_needs_more_is_told_so(self):
    found = ratios.compare(
      _row('teacher', 0.9, 100, 1024, 1.0), _row('ft', 0.95, 150, 2048, 3.0)
    )
    self.assertEqual(
      [(ratio.value, ratio.what) for ratio in found],
      [
        ('+5.00', 'points of test accuracy'),
        ('1.5x', 'more parameters'),
        ('2.0x', 'larger int8 file'),
        ('3.0x', 'slower as int8 file'),
      ],
    )

  def test_teacher_without_a_file_leaves_the_parameters(self):
    found = ratios.compare(
      _row('teacher', 0.95, 1000), _row('ft', 0.93, 100, 1024, 1.0)
    )
    self.assertLen(found, 2)


if __name__ == '__main__':
  absltest.main()
