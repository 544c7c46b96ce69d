"""The lines of progress as text: known lines, and every width."""

import dataclasses
import itertools

from absl.testing import absltest, parameterized

from ft_tf.progress import rendering

_STATE = rendering.State(
  name='student ft seed 1',
  part=3,
  parts=8,
  epoch=4,
  epochs=8,
  share=0.45,
  loss=1.2345,
  accuracy=0.912,
  images_per_second=1015.2,
  seconds_left=130,
  all_seconds_left=870,
)
_LONG = dataclasses.replace(
  _STATE,
  name='student ft_repdistiller,beta=200,rate=0.5 seed 11',
  part=108,
  parts=120,
  epoch=164,
  epochs=240,
  loss=0.00123,
  images_per_second=12345.6,
  seconds_left=12345,
  all_seconds_left=1234567,
  rough=True,
)


def _replaced(**values):
  return dataclasses.replace(_STATE, **values)


class BarTest(parameterized.TestCase):
  @parameterized.parameters(
    (
      101,
      '[3/8] student ft seed 1  epoch 4/8 |###    | loss 1.23  val 91.2 %  '
      '1,015 img/s  ETA 2:10 (all 14:30)',
    ),
    (
      80,
      '[3/8] ft seed 1 ep 4/8 |####      | loss 1.23 val 91.2% 1,015/s '
      'ETA 2:10 (14:30)',
    ),
    (
      70,
      '[3/8] ft seed 1 ep 4/8 loss 1.23 val 91.2% 1,015/s ETA 2:10 (14:30)',
    ),
    (60, '[3/8] ft seed 1 ep 4/8 loss 1.23 val 91.2% ETA 2:10 (14:30)'),
    (50, '[3/8] ft seed 1 ep 4/8 val 91.2% ETA 2:10 (14:30)'),
    (40, '[3/8] ft seed 1 4/8 91.2% 2:10'),
    (30, '[3/8] ft seed 1 4/8 91.2% 2:10'),
    (25, '[3/8] ft seed 1 4/8 91.2%'),
    (20, '[3/8] ft seed 1 4/8'),
    (5, '[3/8]'),
  )
  def test_fields_give_way_by_priority(self, width, line):
    self.assertEqual(rendering.render_bar(_STATE, width), line)

  def test_bar_is_at_most_20_long(self):
    line = rendering.render_bar(_STATE, 200)
    self.assertIn(f' |{"#" * 9}{" " * 11}| ', line)

  def test_no_width_is_exceeded(self):
    states = [
      dataclasses.replace(
        state, accuracy=accuracy, status=status, share=share, name=name
      )
      for state, accuracy, status, share, name in itertools.product(
        (_STATE, _LONG),
        (None, 0.5, 1.0),
        ('', 'compiling', 'student: measuring student_int8.tflite'),
        (0.0, 0.999, 1.0),
        ('teacher', 'baseline seed 1', _LONG.name),
      )
    ]
    for width in range(1, 201):
      for state in states:
        for line in (
          rendering.render_bar(state, width),
          rendering.render_epoch(state, 5000.0, width),
        ):
          if len(line) > width or '\n' in line:
            self.fail(f'{line!r} has {len(line)} characters, not {width}')

  @parameterized.parameters('teacher', 'paraphraser', 'baseline seed 1')
  def test_every_field_fits_an_80_column_terminal(self, name):
    # Whose last column stays free.
    line = rendering.render_bar(_replaced(name=name), 79)
    for field in ('[3/8]', name, '4/8', '|', '1.23', '91.2', '1,015', '2:10'):
      self.assertIn(field, line)
    self.assertIn('(14:30)', line)

  @parameterized.parameters(
    ({}, '(all 14:30)', True),
    ({'rough': True}, '(all ~14:30)', True),
    ({'parts': 1, 'part': 1}, '(all', False),
    ({'parts': 1, 'part': 1}, '[', False),
    ({'accuracy': None, 'validation_loss': 2.95}, 'val 2.95', True),
    ({'accuracy': None}, 'val', False),
    ({'images_per_second': 3.456}, '3.5 img/s', True),
    ({'loss': float('nan')}, 'loss nan', True),
  )
  def test_field_is_shown_where_it_is_known(self, values, text, shown):
    line = rendering.render_bar(_replaced(**values), 200)
    self.assertEqual(text in line, shown, line)

  def test_status_stands_in_place_of_figures(self):
    self.assertEqual(
      rendering.render_bar(_replaced(status='compiling'), 80),
      '[3/8] student ft seed 1  compiling (all 14:30)',
    )


class LineTest(parameterized.TestCase):
  def test_line_has_every_field_and_the_share_of_the_steps(self):
    self.assertEqual(
      rendering.render_line(_STATE),
      '[3/8] student ft seed 1  epoch 4/8 (45 %)  loss 1.23  val 91.2 %  '
      '1,015 img/s  ETA 2:10 (all 14:30)',
    )

  def test_line_of_an_epoch_has_the_time_that_has_passed(self):
    line = (
      '[3/8] student ft seed 1  epoch 4/8  loss 1.23  val 91.2 %  '
      '1,015 img/s  0:42'
    )
    self.assertEqual(rendering.render_epoch(_STATE, 42), line)
    self.assertEqual(rendering.render_epoch(_STATE, 42, 79), line)
    self.assertEqual(
      rendering.render_epoch(_STATE, 42, 40),
      '[3/8] ft seed 1 ep 4/8 val 91.2% 0:42',
    )

  @parameterized.parameters(
    (0, '0:00'), (-1, '0:00'), (59.2, '1:00'), (130, '2:10'), (3600, '1:00:00')
  )
  def test_time(self, seconds, text):
    self.assertEqual(rendering.format_time(seconds), text)

  @parameterized.parameters(
    (1, 'about 5 s'),
    (42, 'about 45 s'),
    (870, 'about 14 min'),
    (12345, 'about 3.4 h'),
  )
  def test_time_in_words(self, seconds, text):
    self.assertEqual(rendering.describe_time(seconds), text)

  @parameterized.parameters(
    (0, '0.00'),
    (1.2345, '1.23'),
    (12.345, '12.3'),
    (1234.5, '1234'),
    (0.00123, '0.00123'),
    (1e-5, '1e-05'),
    (-0.5, '-0.500'),
  )
  def test_number_has_three_digits(self, value, text):
    self.assertEqual(rendering.format_number(value), text)


if __name__ == '__main__':
  absltest.main()
