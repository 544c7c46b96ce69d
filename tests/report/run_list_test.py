"""The list of runs, from folders as runs leave them."""

import os

from absl.testing import absltest

from ft_tf import errors, run_dir
from ft_tf.report import run_list


class RunListTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.root = self.create_tempdir().full_path

  def _run(self, name, recipe, *, rows=(), result=None):
    run = run_dir.RunDir(os.path.join(self.root, name))
    os.makedirs(run.path)
    run.write('recipe.json', recipe)
    for row in rows:
      run.append_metrics(row)
    if result is not None:
      run.write('result.json', result)
    return run

  def test_each_run_has_its_method_seed_state_accuracy_and_time(self):
    # The folder of the whole is not a run of its own.
    self._run('a', {'student': {'method': 'ft'}, 'seeds': 1})
    self._run(
      'a/teacher',
      {'stage': 'teacher', 'seed': 0, 'teacher': {}},
      result={'accuracy': 0.9, 'wall_seconds': 61.4},
    )
    rows = [
      {'step': 3, 'validation_accuracy': 0.5, 'wall_seconds': 2.0},
      {'step': 4, 'wall_seconds': 3.6},
    ]
    recipe = {'stage': 'student', 'seed': 2, 'student': {'method': 'kd'}}
    self._run('a/student', recipe, rows=rows)
    running = self._run('b', {'stage': 'paraphraser', 'paraphraser': {}})
    running.claim(running.read('recipe.json'))
    self.addCleanup(running.release)

    found = {row['run']: row for row in run_list.find(self.root)}

    self.assertEqual([*found], ['a/student', 'a/teacher', 'b'])
    self.assertEqual(
      [run_list.format_cells(row) for row in found.values()],
      [
        ['a/student', 'kd', '2', 'interrupted, step 4', '50.00', '0:00:04'],
        ['a/teacher', 'teacher', '0', 'complete', '90.00', '0:01:01'],
        ['b', 'paraphraser', '-', 'running, step 0', '-', '0:00:00'],
      ],
    )
    running.release()
    self.assertEqual(run_list.find(self.root)[-1]['state'], 'interrupted')

  def test_a_run_itself_can_be_given(self):
    run = self._run('x', {'stage': 'teacher', 'seed': 0})
    (row,) = run_list.find(run.path)
    self.assertEqual((row['run'], row['method']), ('.', 'teacher'))

  def test_no_folder_is_refused_and_no_run_is_an_empty_list(self):
    self.assertEqual(run_list.find(self.root), [])
    with self.assertRaisesRegex(errors.UsageError, '^there is no folder '):
      run_list.find(os.path.join(self.root, 'missing'))


if __name__ == '__main__':
  absltest.main()
