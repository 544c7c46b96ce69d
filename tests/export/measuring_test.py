"""What is said of an export's files, and when it is an error."""

from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.export import measuring


def _figures(*lost, examples=1000):
  """Returns figures of files that lose some test images each."""
  entries = {'student.keras': 0}
  entries |= {f'{i}.tflite': count for i, count in enumerate(lost)}
  return {
    name: {
      'accuracy': (0.9 * examples - count) / examples,
      'examples': examples,
      'agreement': 0.97,
      'mean_logit_difference': 0.25,
      'max_logit_difference': 3.5,
      'worst_class': {
        'label': 'cat',
        'accuracy': 0.5,
        'drop': 0.125,
        'examples': 8,
      },
    }
    for name, count in entries.items()
  }


class MeasuringTest(parameterized.TestCase):
  @parameterized.parameters(
    (1.0, 10, 1000, True),
    (1.0, 11, 1000, False),
    (0.0, 0, 1000, True),
    (0.0, 1, 1000, False),
    (0.25, 3, 1000, True),  # a part of an image counts as one
    (0.25, 4, 1000, False),
    (1.0, 1, 30, True),  # fewer images than one in a hundred
    (1.0, 2, 30, False),
    (5.0, -20, 1000, True),  # better than the Keras student
  )
  def test_drop_is_counted_in_images(self, max_drop, lost, examples, passes):
    figures = _figures(0, lost, examples=examples)
    if passes:
      measuring.check_drop(figures, max_drop, 'export')
      return
    with self.assertRaises(errors.TrainingError) as caught:
      measuring.check_drop(figures, max_drop, 'runs/export')
    message = str(caught.exception)
    self.assertTrue(message.startswith('1.tflite'))
    for part in (
      'cat loses 12.5 points',
      '97.00 %',
      '3.5',
      f'--max_drop={max_drop:g}',
      'runs/export is kept',
      '--qat_epochs',
      '--formats=mixed',
    ):
      self.assertIn(part, message)
    self.assertNotIn('\n', message)


if __name__ == '__main__':
  absltest.main()
