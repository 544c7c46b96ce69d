"""What a command shows while its parts run, line by line."""

import contextlib
import io
import re
import sys
import threading
from unittest import mock

from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.progress import plan, reporter, screen


class Time:
  """A clock that stands still until it is moved."""

  def __init__(self):
    self.now = 0.0

  def __call__(self):
    return self.now


def _parts(folder):
  names = ('teacher', 'student ft seed 0', 'student ft seed 1')
  return [
    plan.Part(
      path=f'{folder}/{name}',
      name=name,
      kind=name.partition(' seed')[0],
      epochs=2,
      images=160,
      steps=20,
    )
    for name in names
  ]


def _row(step, **values):
  return {
    'step': step,
    'epoch': step / 10,
    'loss': 1.5,
    'images_per_second': 320.0,
    **values,
  }


def _train(progress, path, time, *, name='', first=0, seconds=2.0):
  """Reports the rows of 20 steps, every 5, each of so many seconds."""
  with progress.part(path, name) as part:
    time.now += 3
    part.start(step=first, steps=20, epochs=2)
    part.compiled()
    for step in range(first + 5, 21, 5):
      time.now += seconds * (5 if step > first + 5 else 4)
      ends = step % 10 == 0
      validation = {'validation_accuracy': 0.9} if ends else {}
      part.row(_row(step, **validation), ends_epoch=ends)
    part.end('test accuracy 91.25 %')


class ReporterTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = self.create_tempdir().full_path
    self.time = Time()

  def _said(self, function):
    """Returns what is printed, times of day as HH:MM:SS."""
    with contextlib.redirect_stderr(io.StringIO()) as said:
      function()
    text = re.sub(r'(?m)^\d\d:\d\d:\d\d', 'HH:MM:SS', said.getvalue())
    return text.splitlines()

  def _progress(self, parts=None, **options):
    parts = _parts(self.folder) if parts is None else parts
    return reporter.Progress(parts, clock=self.time, **options)

  def test_lines_have_place_figures_and_both_times(self):
    def run():
      progress = self._progress(mode='lines')
      progress.announce()
      _train(progress, f'{self.folder}/teacher', self.time)

    self.assertEqual(
      self._said(run),
      [
        'plan: 3 parts',
        '  teacher: 2 epochs of 160 images, 20 steps',
        '  student ft: 2 seeds, 2 epochs of 160 images, 20 steps each',
        'HH:MM:SS [1/3] teacher  compiling',
        # 15 steps are left of this part, and twice 20 and 3 s to build.
        'time: about 2 min of training left (rough: 1 kind of part not '
        'measured yet)',
        'HH:MM:SS [1/3] teacher  epoch 1/2 (25 %)  loss 1.50  320 img/s  '
        'ETA 0:30 (all ~1:56)',
        'HH:MM:SS [1/3] teacher  epoch 1/2 (50 %)  loss 1.50  val 90.0 %  '
        '320 img/s  ETA 0:20 (all ~1:46)',
        'HH:MM:SS [1/3] teacher  epoch 2/2 (75 %)  loss 1.50  val 90.0 %  '
        '320 img/s  ETA 0:10 (all ~1:36)',
        'HH:MM:SS [1/3] teacher  epoch 2/2  loss 1.50  val 90.0 %  320 img/s  '
        '0:41',
        '[1/3] teacher: test accuracy 91.25 %, 0:41',
      ],
    )

  def test_lines_are_at_least_9_seconds_apart_but_for_the_last(self):
    def run():
      progress = self._progress([], mode='lines')
      _train(progress, self.folder, self.time, name='teacher', seconds=0.1)

    self.assertEqual(
      self._said(run),
      [
        'HH:MM:SS teacher  compiling',
        'HH:MM:SS teacher  epoch 2/2  loss 1.50  val 90.0 %  320 img/s  0:05',
        'teacher: test accuracy 91.25 %, 0:05',
      ],
    )

  def test_log_gets_a_status_only_after_a_silence(self):
    def run():
      progress = self._progress([], mode='lines')
      with progress.part(self.folder, 'export') as part:
        status = part.step('student')
        for image in range(0, 30, 3):
          self.time.now += 3
          status(f'measuring, {image} of 30 images')

    self.assertEqual(
      self._said(run),
      [
        'HH:MM:SS export  student',
        'HH:MM:SS export  student: measuring, 6 of 30 images',
        'HH:MM:SS export  student: measuring, 15 of 30 images',
        'HH:MM:SS export  student: measuring, 24 of 30 images',
      ],
    )

  def test_log_has_a_line_while_one_thing_takes_long(self):
    printed = threading.Event()

    class Said(io.StringIO):
      def write(self, text):
        if 'compiling' in text and self.getvalue():
          printed.set()
        return super().write(text)

    progress = self._progress([], mode='lines')
    with (
      mock.patch.object(reporter, '_SECONDS_BETWEEN_BEATS', 0.01),
      contextlib.redirect_stderr(Said()) as said,
      progress.part(self.folder, 'teacher') as part,
    ):
      part.start(step=0, steps=20, epochs=2)
      first = said.getvalue()
      self.assertFalse(printed.wait(0.1))
      self.time.now += 9
      self.assertTrue(printed.wait(30))
    lines = [line[8:] for line in said.getvalue().splitlines()]
    self.assertEqual(lines, [first[8:].strip('\n')] * 2)

  def test_steps_between_rows_are_shown(self):
    def run():
      progress = self._progress([], mode='lines')
      with progress.part(self.folder, 'teacher') as part:
        part.start(step=0, steps=20, epochs=2)
        part.compiled()
        for step in range(2, 8):
          self.time.now += 6
          part.stepped(step)

    self.assertEqual(
      self._said(run)[1:],
      [
        'HH:MM:SS teacher  epoch 1/2 (15 %)  ETA 1:42',
        'HH:MM:SS teacher  epoch 1/2 (25 %)  ETA 1:30',
        'HH:MM:SS teacher  epoch 1/2 (35 %)  ETA 1:18',
      ],
    )

  def test_second_kind_makes_the_time_sure(self):
    progress = self._progress(mode='lines', estimates=True)
    self._said(lambda: _train(progress, f'{self.folder}/teacher', self.time))
    lines = self._said(
      lambda: _train(
        progress, f'{self.folder}/student ft seed 0', self.time, seconds=1.0
      )
    )
    # 15 steps of 1 s, and 20 with 3 s to build.
    self.assertIn(
      'time: about 40 s of training left (every kind of part is measured)',
      lines,
    )
    lines = self._said(
      lambda: _train(
        progress, f'{self.folder}/student ft seed 1', self.time, seconds=1.0
      )
    )
    self.assertNotIn('time:', '\n'.join(lines))

  def test_continued_part_says_from_where_and_counts_what_is_done(self):
    lines = self._said(
      lambda: _train(
        self._progress(mode='lines'),
        f'{self.folder}/teacher',
        self.time,
        first=10,
      )
    )
    self.assertIn('[1/3] teacher: continues at step 10 of 20', lines)
    # 5 of 20 steps are left.
    self.assertIn('(75 %)  loss 1.50', '\n'.join(lines))
    self.assertIn('ETA 0:10 (all ~1:36)', '\n'.join(lines))

  def test_off_prints_messages_alone(self):
    def run():
      progress = self._progress(mode='off')
      progress.announce()
      with progress.part(f'{self.folder}/teacher', '') as part:
        part.say_once('precision: float32')
        part.say_once('precision: float32')
      _train(progress, f'{self.folder}/student ft seed 0', self.time)

    self.assertEqual(self._said(run), ['precision: float32'])

  def test_process_of_a_job_names_the_part_and_knows_no_time_of_all(self):
    progress = self._progress(mode='lines', estimates=False)
    lines = self._said(
      lambda: _train(progress, f'{self.folder}/student ft seed 1', self.time)
    )
    self.assertIn('[3/3] student ft seed 1  compiling', lines[0])
    self.assertIn('ETA 0:30', lines[1])
    self.assertNotIn('all', ''.join(lines))

  def test_process_of_a_job_puts_the_part_before_its_messages(self):
    def run():
      progress = self._progress(mode='lines', estimates=False)
      with progress.part(f'{self.folder}/student ft seed 1', '') as part:
        part.say_once('precision: float32')
        part.say_once('precision: float32')
        print('signals: all were there', file=sys.stderr)

    self.assertEqual(
      self._said(run),
      [
        '[3/3] student ft seed 1: precision: float32',
        '[3/3] student ft seed 1: signals: all were there',
      ],
    )

  def test_bar_is_redrawn_and_an_epochs_line_stays(self):
    def run():
      _train(self._progress(mode='bar'), f'{self.folder}/teacher', self.time)

    with mock.patch.object(screen, 'width', return_value=80):
      with contextlib.redirect_stderr(io.StringIO()) as said:
        run()
    shown = _shown(said.getvalue())
    # The bar is gone at the end.
    self.assertEqual(
      shown,
      [
        'time: about 2 min of training left (rough: 1 kind of part not '
        'measured yet)',
        '[1/3] teacher  epoch 1/2  loss 1.50  val 90.0 %  320 img/s  0:21',
        '[1/3] teacher  epoch 2/2  loss 1.50  val 90.0 %  320 img/s  0:41',
        '[1/3] teacher: test accuracy 91.25 %, 0:41',
        '',
      ],
    )
    drawn = said.getvalue()
    self.assertIn('\r[1/3] teacher  compiling\x1b[K', drawn)
    self.assertIn(
      '\r[1/3] teacher ep 2/2 |###  | loss 1.50 val 90.0% 320 img/s ETA 0:10 '
      '(all ~1:36)\x1b[K',
      drawn,
    )

  def test_what_others_print_goes_above_the_bar(self):
    with contextlib.redirect_stderr(io.StringIO()) as said:
      progress = self._progress([], mode='bar')
      with progress.part(self.folder, 'teacher'):
        print('a note', file=sys.stderr)
        print('half', end='', file=sys.stderr)
    self.assertEqual(_shown(said.getvalue()), ['a note', 'half', ''])

  def test_bar_is_taken_away_when_a_part_fails(self):
    with contextlib.redirect_stderr(io.StringIO()) as said:
      progress = self._progress([], mode='bar')
      with self.assertRaises(errors.TrainingError):
        with progress.part(self.folder, 'teacher'):
          raise errors.TrainingError('loss is nan')
    self.assertEqual(_shown(said.getvalue()), [''])

  def test_mode_that_is_none_is_refused(self):
    with self.assertRaisesRegex(errors.UsageError, '--progress=loud: give au'):
      self._progress(mode='loud')


def _shown(text):
  """Returns the lines that a terminal shows after a text."""
  lines, column = [''], 0
  for token in re.findall(r'\x1b\[K|[\r\n]|[^\x1b\r\n]+', text):
    if token == '\x1b[K':
      lines[-1] = lines[-1][:column]
    elif token == '\r':
      column = 0
    elif token == '\n':
      lines.append('')
      column = 0
    else:
      line = lines[-1].ljust(column)
      lines[-1] = line[:column] + token + line[column + len(token) :]
      column += len(token)
  return lines


if __name__ == '__main__':
  absltest.main()
