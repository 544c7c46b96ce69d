"""Comparisons as a library call: what is shared, skipped, continued, told."""

import contextlib
import functools
import io
import multiprocessing
import os
import re
import signal
import threading
import time
from unittest import mock

import keras
import pytest
from absl.testing import absltest, parameterized

from ft_tf import (
  arms,
  catalogue,
  comparison,
  errors,
  processes,
  recipe_flags,
  rehearsal,
  run_dir,
  specs,
  workshop,
)
from ft_tf.data import datasets
from ft_tf.models import zoo
from ft_tf.training import loop, student
from tests import fixtures


class CompareTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    keras.utils.set_random_seed(0)
    with fixtures.strategy().scope():
      cls.network = zoo.build(
        'short-wide', specs.spec(fixtures.short_recipe(), fixtures.blobs())
      )

  def setUp(self):
    super().setUp()
    self.folder = self.create_tempdir().full_path
    self.teacher = os.path.join(self.folder, 'mine.keras')
    self.network.save(self.teacher)
    self.run_dir = run_dir.RunDir(os.path.join(self.folder, 'run'))

  def _compare(
    self,
    methods,
    sweep=None,
    seeds=1,
    jobs=1,
    **flags,
  ):
    return comparison.compare(
      fixtures.short_recipe(**{'teacher': self.teacher, **flags}),
      run=self.run_dir,
      devices=fixtures.strategy(),
      workshop=workshop.Workshop(
        fixtures.blobs,
        loop.Options(),
        signal_cache=os.path.join(self.folder, 'signals'),
      ),
      chosen=arms.make(methods, sweep or {}),
      seeds=seeds,
      jobs=jobs,
      exports=False,
    )

  def test_progress_names_every_part_at_its_place(self):
    with contextlib.redirect_stderr(io.StringIO()) as said:
      self._compare(['scratch', 'kd'], {'temperature': [2.0, 4.0]})
    printed = said.getvalue()
    self.assertIn('plan: 4 parts\n  teacher: given', printed)
    for place in (
      '[2/4] baseline seed 0: test accuracy',
      '[3/4] student kd,temperature=2.0 seed 0  epoch 3/3',
      '[4/4] student kd,temperature=4.0 seed 0: test accuracy',
    ):
      self.assertIn(place, printed)

  @pytest.mark.slow
  def test_students_share_teacher_and_paraphraser_and_signals(self):
    found = self._compare(['scratch', 'ft', 'ft+kd'], seeds=2)
    rows = {row['method']: row for row in found['rows']}
    self.assertEqual(list(rows), ['teacher', 'scratch', 'ft', 'ft+kd'])
    for method in ('scratch', 'ft', 'ft+kd'):
      self.assertEqual(rows[method]['seed_numbers'], [0, 1])
      self.assertIsNotNone(rows[method]['teacher_agreement'])
    self.assertLen(os.listdir(self.run_dir.child('paraphrasers').path), 1)
    self.assertLen(os.listdir(os.path.join(self.folder, 'signals')), 2)
    self.assertEqual(found['failures'], {})

  @pytest.mark.slow
  def test_methods_and_seeds_may_be_added_and_nothing_runs_twice(self):
    first = self._compare(['scratch'])
    with mock.patch.object(loop, 'run', side_effect=AssertionError):
      self.assertEqual(self._compare(['scratch']), first)
    found = self._compare(['kd', 'scratch'], seeds=2)
    self.assertEqual(
      [(row['method'], row['seeds']) for row in found['rows']],
      [('teacher', 1), ('scratch', 2), ('kd', 2)],
    )
    # What the page explains.
    self.assertEqual(list(self.run_dir.read('methods.json')), ['scratch', 'kd'])
    self.assertEqual(
      found['rows'][1]['accuracies'][0], first['rows'][1]['accuracies'][0]
    )

  def test_disk_too_small_for_all_of_it_is_refused_before_it_begins(self):
    def needed(methods, **options):
      usage = mock.Mock(free=1000)
      with (
        mock.patch('shutil.disk_usage', return_value=usage),
        self.assertRaisesRegex(errors.UsageError, 'checkpoints') as caught,
      ):
        self._compare(methods, **options)
      self.assertFalse(os.path.exists(self.run_dir.path))
      said = re.search(r'take about ([\d.]+) MiB', str(caught.exception))
      return float(said[1])

    one, two = needed(['scratch']), needed(['scratch', 'ft'])
    # ft has a translator and a paraphraser besides, which its seeds share.
    self.assertGreater(two, 1.5 * one)
    self.assertBetween(needed(['scratch', 'ft'], seeds=2), two, 2 * two)

  def test_failed_run_is_reported_and_the_others_go_on(self):
    found = self._compare(['scratch'], {'student_learning_rate': [1e30, 0.1]})
    (name,) = found['failures']
    self.assertEqual(name, 'scratch,student_learning_rate=1e+30-0')
    self.assertIn('lower learning rate', found['failures'][name])
    self.assertEqual(
      [row['method'] for row in found['rows']],
      ['teacher', 'scratch,student_learning_rate=0.1'],
    )

  @pytest.mark.slow
  def test_unexpected_failure_does_not_stop_the_others(self):
    train = student.train_student

    def fails(recipe, *args, **kwargs):
      if recipe.seed == 0:
        raise MemoryError('no room')
      return train(recipe, *args, **kwargs)

    with mock.patch.object(student, 'train_student', fails):
      found = self._compare(['scratch'], seeds=2)
    self.assertEqual(found['failures'], {'scratch-0': 'MemoryError: no room'})
    self.assertEqual(found['rows'][1]['seed_numbers'], [1])

  @parameterized.parameters(
    (
      -signal.SIGKILL,
      'memory ran out, twice: run the same command again, with --jobs=1',
    ),
    (-signal.SIGSEGV, r'\(SIGSEGV\), twice: run the same command again$'),
  )
  def test_process_that_dies_twice_is_reported_with_the_way_out(
    self, code, message
  ):
    ended = [
      iter([(1, processes.Died(code)), (0, ''), (2, '')]),
      iter([(0, processes.Died(code))]),
    ]
    with mock.patch.object(
      processes, 'run_each', side_effect=ended
    ) as run_each:
      found = self._compare(['scratch'], seeds=3, jobs=3)
    self.assertEqual(list(found['failures']), ['scratch-1'])
    self.assertRegex(found['failures']['scratch-1'], message)
    for call, seeds, workers in zip(
      run_each.call_args_list, ([0, 1, 2], [1]), (3, 1), strict=True
    ):
      orders = [each['order'] for each in call.args[1]]
      self.assertEqual([order.task.recipe.seed for order in orders], seeds)
      self.assertEqual(call.kwargs['workers'], workers)

  def test_student_whose_process_died_once_is_trained_after_all(self):
    ended = [iter([(1, processes.Died(-9)), (0, '')]), iter([(0, '')])]
    with mock.patch.object(processes, 'run_each', side_effect=ended):
      found = self._compare(['scratch'], seeds=2, jobs=2)
    self.assertEmpty(found['failures'])

  @pytest.mark.slow
  def test_student_of_a_killed_process_is_trained_at_the_end(self):
    recipe = recipe_flags.override(
      catalogue.digits(),
      {
        'train_split': 'train[:96]',
        'test_split': 'test[:64]',
        'teacher': 'resnet8x0.25',
        'student': 'resnet8x0.25',
        'teacher_epochs': 1,
        'student_epochs': 1,
        'validation_examples': 32,
        'image_size': 0,
      },
    )

    def compare():
      return comparison.compare(
        recipe,
        run=self.run_dir,
        devices=fixtures.strategy(),
        workshop=workshop.Workshop(
          functools.partial(
            datasets.Dataset.from_recipe,
            recipe.data,
            os.path.join(self.folder, 'data'),
          ),
          loop.Options(),
        ),
        chosen=arms.make(['scratch'], {}),
        seeds=3,
        jobs=2,
        exports=False,
      )

    def kill_first():
      while not (children := multiprocessing.active_children()):
        time.sleep(0.05)
      children[0].kill()

    killer = threading.Thread(target=kill_first)
    killer.start()
    found = compare()
    killer.join()
    self.assertEqual(found['failures'], {})
    self.assertEqual(found['rows'][1]['seed_numbers'], [0, 1, 2])

  @pytest.mark.slow
  def test_each_paraphrase_rate_has_its_paraphraser(self):
    found = self._compare(
      ['ft', 'ft_no_translator'],
      {'rate': [2.0]},
      student_epochs=1,
      paraphraser_epochs=1,
    )
    self.assertEqual(found['failures'], {})
    # The last is the student's channels over the teacher's.
    self.assertCountEqual(
      [
        name.partition('-')[0]
        for name in os.listdir(self.run_dir.child('paraphrasers').path)
      ],
      ['k0.5', 'k2'],
    )

  @pytest.mark.slow
  def test_interrupted_comparison_goes_on(self):
    train = student.train_student
    with (
      mock.patch.object(
        student,
        'train_student',
        side_effect=[mock.DEFAULT, KeyboardInterrupt],
      ),
      self.assertRaises(KeyboardInterrupt),
    ):
      self._compare(['scratch', 'ft'])
    self.assertIs(student.train_student, train)
    with mock.patch.object(loop, 'run', wraps=loop.run) as trained:
      found = self._compare(['scratch', 'ft'])
    # The paraphraser was complete.
    self.assertEqual(trained.call_count, 2)
    self.assertLen(found['rows'], 3)

  def test_other_recipe_in_the_folder_is_refused(self):
    self._compare(['scratch'])
    with self.assertRaisesRegex(
      errors.UsageError, 'student.epochs: 3 saved, 2 given'
    ):
      self._compare(['scratch'], student_epochs=2)

  def test_memory_of_one_process_is_not_shared_by_several(self):
    with self.assertRaisesRegex(errors.UsageError, 'give a folder, or off'):
      comparison.compare(
        fixtures.short_recipe(),
        run=self.run_dir,
        devices=fixtures.strategy(),
        workshop=workshop.Workshop(
          fixtures.blobs, loop.Options(), signal_cache='memory'
        ),
        chosen=arms.make(['scratch'], {}),
        jobs=2,
      )
    self.assertFalse(os.path.exists(self.run_dir.path))

  @pytest.mark.slow
  def test_paraphraser_that_diverges_stops_only_those_that_need_it(self):
    found = self._compare(
      ['scratch', 'ft'], {'paraphraser_learning_rate': [0.1, 1e9]}
    )
    self.assertEqual(
      [row['method'] for row in found['rows']],
      ['teacher', 'scratch', 'ft,paraphraser_learning_rate=0.1'],
    )
    (name,) = found['failures']
    self.assertEqual(name, 'ft,paraphraser_learning_rate=1000000000.0-0')
    self.assertIn('its paraphraser: loss is', found['failures'][name])

  @pytest.mark.slow
  def test_rehearsal_estimates_every_part_and_leaves_nothing(self):
    parts = rehearsal.rehearse(
      fixtures.short_recipe(),
      devices=fixtures.strategy(),
      workshop=workshop.Workshop(fixtures.blobs, loop.Options()),
      chosen=arms.make(['scratch', 'ft'], {}),
      seeds=3,
    )
    names = [part['part'] for part in parts]
    self.assertEqual(names[0], 'teacher')
    self.assertStartsWith(names[1], 'paraphrasers/')
    self.assertEqual(names[2:], ['scratch', 'ft'])
    self.assertEqual([part['runs'] for part in parts], [1, 1, 3, 3])
    for part in parts:
      self.assertGreater(part['seconds'], 0)
    self.assertEqual(os.listdir(self.folder), ['mine.keras'])


if __name__ == '__main__':
  absltest.main()
