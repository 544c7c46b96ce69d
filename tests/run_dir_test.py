"""The run folder: atomic writes, one process at a time, one recipe."""

import hashlib
import json
import os
import subprocess
import sys

from absl.testing import absltest, parameterized

from ft_tf import errors, run_dir, storage

_RECIPE = {
  'stage': 'student',
  'seed': 0,
  'data': {'dataset': 'digits', 'mean': (0.3,)},
  'student': {'epochs': 40, 'drop_epochs': (20, 30)},
}


def _changed(**student):
  return {**_RECIPE, 'student': {**_RECIPE['student'], **student}}


class RunDirTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self._scratch = self.create_tempdir().full_path
    self._path = os.path.join(self._scratch, 'runs', 'first')

  def _claimed(self, recipe=None):
    run = run_dir.RunDir(self._path)
    run.claim(recipe or _RECIPE)
    self.addCleanup(run.release)
    return run

  def test_tilde_is_the_home_folder(self):
    with absltest.mock.patch.dict(os.environ, {'HOME': self._scratch}):
      self.assertEqual(run_dir.RunDir('~/runs/first').path, self._path)

  def test_nothing_is_written_before_claim(self):
    run = run_dir.RunDir(self._path)
    self.assertIsNone(run.read('recipe.json'))
    self.assertEmpty(run.metrics())
    run.check(_RECIPE)
    self.assertEmpty(os.listdir(self._scratch))

  def test_files_have_the_names_of_the_contract(self):
    run = run_dir.RunDir(self._path)
    self.assertEqual(run.model, os.path.join(self._path, 'model.keras'))
    self.assertEqual(run.checkpoints, os.path.join(self._path, 'checkpoints'))
    self.assertEqual(run.tensorboard, os.path.join(self._path, 'tensorboard'))
    self.assertEqual(
      run.child('teacher').path, os.path.join(self._path, 'teacher')
    )

  def test_path_stays_the_same_when_the_working_directory_changes(self):
    working_directory = os.getcwd()
    self.addCleanup(os.chdir, working_directory)
    os.chdir(self._scratch)
    run = run_dir.RunDir('first')
    os.chdir(working_directory)
    self.assertEqual(
      os.path.realpath(run.path),
      os.path.realpath(os.path.join(self._scratch, 'first')),
    )

  def test_claim_writes_the_recipe_and_the_environment(self):
    self._claimed()
    with open(os.path.join(self._path, 'recipe.json')) as file:
      self.assertEqual(json.load(file), json.loads(json.dumps(_RECIPE)))
    with open(os.path.join(self._path, 'environment.json')) as file:
      (environment,) = json.load(file)
    self.assertEqual(environment['command'][1:], sys.argv)
    self.assertEqual(
      environment['python'], '.'.join(map(str, sys.version_info[:3]))
    )
    self.assertIn('tensorflow', environment['packages'])
    self.assertIn('keras', environment['packages'])

  def test_claim_again_with_the_same_recipe_continues_the_run(self):
    first = self._claimed()
    first.append_metrics({'step': 1})
    first.release()
    second = self._claimed()
    self.assertEqual(second.metrics(), [{'step': 1}])
    self.assertLen(second.read('environment.json'), 2)

  def test_claim_of_another_recipe_names_the_fields_and_the_fix(self):
    self._claimed().release()
    with self.assertRaises(errors.UsageError) as caught:
      self._claimed({**_changed(epochs=41, drop_epochs=(20,)), 'seed': 1})
    message = str(caught.exception)
    self.assertIn(self._path, message)
    self.assertIn('seed: 0 saved, 1 given', message)
    self.assertIn('student.epochs: 40 saved, 41 given', message)
    self.assertIn('student.drop_epochs: [20, 30] saved, [20] given', message)
    self.assertIn('another --workdir', message)
    self.assertNotIn('dataset', message)  # It is the same.

  def test_claim_of_another_recipe_leaves_the_folder_as_it_was(self):
    self._claimed().release()
    before = self._contents()
    with self.assertRaises(errors.UsageError):
      self._claimed(_changed(epochs=41))
    self.assertEqual(self._contents(), before)

  def _contents(self):
    contents = {}
    for folder, _, names in os.walk(self._scratch):
      for name in names:
        with open(os.path.join(folder, name), 'rb') as file:
          contents[os.path.join(folder, name)] = file.read()
    return contents

  def test_claim_of_a_recipe_with_a_field_more_or_less_is_refused(self):
    self._claimed().release()
    with self.assertRaisesRegex(
      errors.UsageError, 'student.beta: None saved, 5 given'
    ):
      self._claimed(_changed(beta=5))
    with self.assertRaisesRegex(
      errors.UsageError, 'stage: student saved, None given'
    ):
      self._claimed({k: v for k, v in _RECIPE.items() if k != 'stage'})

  def test_what_may_be_added_continues_a_complete_run_and_stays(self):
    first = self._claimed()
    first.write('result.json', {'accuracy': 1})
    first.release()
    more = {**_RECIPE, 'qat': {'epochs': 2}}
    run = run_dir.RunDir(self._path)
    run.check(more, addable=['qat'])
    self.assertIsNotNone(run.read('result.json'))
    run.claim(more, addable=['qat'])
    run.release()
    self.assertIsNone(run.read('result.json'))
    self.assertEqual(run.read('recipe.json')['qat'], {'epochs': 2})
    with self.assertRaisesRegex(
      errors.UsageError, 'qat.epochs: 2 saved, 3 given'
    ):
      run.check({**_RECIPE, 'qat': {'epochs': 3}}, addable=['qat'])
    with self.assertRaisesRegex(errors.UsageError, 'saved, None given'):
      run.check(_RECIPE, addable=['qat'])

  def test_second_claim_is_refused_until_the_first_is_released(self):
    first = self._claimed()
    with self.assertRaisesRegex(
      errors.UsageError, 'in use by another process: wait for it, or give'
    ):
      run_dir.RunDir(self._path).claim(_RECIPE)
    first.release()
    self._claimed()

  def test_another_process_is_refused_and_its_death_frees_the_folder(self):
    # A kill must not leave a lock behind.
    code = (
      'import json, sys; from ft_tf import run_dir;'
      'run = run_dir.RunDir(sys.argv[1]); run.claim(json.loads(sys.argv[2]));'
      'print("claimed", flush=True); sys.stdin.read()'
    )
    owner = subprocess.Popen(
      [sys.executable, '-c', code, self._path, json.dumps(_RECIPE)],
      env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
    with owner:
      self.assertEqual(owner.stdout.readline().strip(), 'claimed')
      with self.assertRaisesRegex(errors.UsageError, 'in use by another'):
        run_dir.RunDir(self._path).claim(_RECIPE)
      owner.kill()
    self._claimed()

  def test_write_replaces_a_file_whole(self):
    run = self._claimed()
    run.write('result.json', {'accuracy': 0.25})
    run.write('result.json', {'accuracy': 0.5})
    self.assertEqual(run.read('result.json'), {'accuracy': 0.5})

  def test_write_of_what_is_not_json_leaves_the_old_file(self):
    run = self._claimed()
    run.write('result.json', {'accuracy': 0.25})
    with self.assertRaises(TypeError):
      run.write('result.json', {'accuracy': object()})
    self.assertEqual(run.read('result.json'), {'accuracy': 0.25})

  def test_metrics_come_back_as_they_were_appended(self):
    run = self._claimed()
    rows = [{'step': 1, 'loss': 2.5}, {'step': 2, 'loss': 0.1}]
    for row in rows:
      run.append_metrics(row)
    self.assertEqual(run.metrics(), rows)

  def test_numbers_that_are_not_finite_are_null(self):
    run = self._claimed()
    value = {'a': [float('nan'), 1.0], 'b': {'c': float('-inf')}, 'd': 'NaN'}
    run.write('figures.json', value)
    run.append_metrics({'step': 1, 'loss': float('inf')})
    run.append_metrics({'step': 2, 'loss': 0.5})
    run.rewind_metrics(1)
    self.assertEqual(
      run.read('figures.json'), {'a': [None, 1.0], 'b': {'c': None}, 'd': 'NaN'}
    )
    self.assertEqual(run.metrics(), [{'step': 1, 'loss': None}])

  def test_metrics_leave_out_a_last_row_that_was_cut_short(self):
    run = self._claimed()
    run.append_metrics({'step': 1, 'loss': 2.5})
    with open(os.path.join(self._path, 'metrics.jsonl'), 'a') as file:
      file.write('{"step": 2, "lo')
    self.assertEqual(run.metrics(), [{'step': 1, 'loss': 2.5}])

  def test_rewind_drops_the_rows_after_the_step_and_an_incomplete_row(self):
    run = self._claimed()
    for step in (10, 20, 30):
      run.append_metrics({'step': step})
    with open(os.path.join(self._path, 'metrics.jsonl'), 'a') as file:
      file.write('{"step": 40')
    self.assertEqual(run.rewind_metrics(20), [{'step': 10}, {'step': 20}])
    run.append_metrics({'step': 30, 'again': True})
    self.assertEqual(
      run.metrics(),
      [{'step': 10}, {'step': 20}, {'step': 30, 'again': True}],
    )

  def test_rewind_without_metrics_writes_none(self):
    run = self._claimed()
    self.assertEmpty(run.rewind_metrics(0))
    self.assertNotIn('metrics.jsonl', os.listdir(self._path))


class WritableTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self._scratch = self.create_tempdir()
    self._file = self._scratch.create_file('file', 'mine').full_path

  # Nobody can create a file in /proc, not even root.
  @parameterized.parameters('/proc/ft_tf', '/proc/ft_tf/deeper')
  def test_folder_that_cannot_be_written_is_refused(self, path):
    with self.assertRaisesRegex(
      errors.UsageError, f'cannot write to {path} .*give another --workdir'
    ):
      run_dir.RunDir(path).claim(_RECIPE)
    with self.assertRaisesRegex(errors.UsageError, 'another --workdir'):
      run_dir.check_writable(path)

  @parameterized.parameters('', '/below', '/below/deeper')
  def test_file_in_the_way_is_refused_and_kept(self, below):
    with self.assertRaisesRegex(
      errors.UsageError, 'cannot write to .*Not a directory.*--workdir'
    ):
      run_dir.RunDir(self._file + below).claim(_RECIPE)
    self.assertEqual(os.listdir(self._scratch.full_path), ['file'])
    with open(self._file) as file:
      self.assertEqual(file.read(), 'mine')

  def test_check_of_a_folder_to_be_made_makes_nothing(self):
    run_dir.check_writable(os.path.join(self._scratch.full_path, 'a', 'b'))
    self.assertEqual(os.listdir(self._scratch.full_path), ['file'])


class ReplacingTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self._scratch = self.create_tempdir()
    self._folder = self._scratch.full_path

  def _read(self, *names):
    with open(os.path.join(self._folder, *names)) as file:
      return file.read()

  def _fail(self, name, content, folder=False):
    with self.assertRaisesRegex(RuntimeError, 'cut off'):
      with storage.replacing(os.path.join(self._folder, name)) as path:
        if folder:
          os.makedirs(path)
          path = os.path.join(path, 'part')
        with open(path, 'w') as file:
          file.write(content)
        raise RuntimeError('cut off')

  def test_failure_leaves_the_old_file_and_no_temporary_files(self):
    self._scratch.create_file('model.keras', 'old')
    self._fail('model.keras', 'half')
    self.assertEqual(self._read('model.keras'), 'old')
    self.assertEqual(os.listdir(self._folder), ['model.keras'])

  def test_failure_leaves_no_file_where_there_was_none(self):
    self._fail('model.keras', 'half')
    self.assertEmpty(os.listdir(self._folder))

  def test_failure_leaves_the_old_folder_and_no_temporary_files(self):
    self._scratch.create_file('saved_model/part', 'old')
    self._fail('saved_model', 'half', folder=True)
    self.assertEqual(self._read('saved_model', 'part'), 'old')
    self.assertEqual(os.listdir(self._folder), ['saved_model'])

  def test_file_appears_only_when_it_is_whole(self):
    target = os.path.join(self._folder, 'model.keras')
    with storage.replacing(target) as path:
      with open(path, 'w') as file:
        file.write('new')
      self.assertNotIn('model.keras', os.listdir(self._folder))
    self.assertEqual(self._read('model.keras'), 'new')
    self.assertEqual(os.listdir(self._folder), ['model.keras'])

  def test_folder_takes_the_place_of_the_old_one_and_its_leftovers(self):
    self._scratch.create_file('saved_model/stale', 'old')
    with storage.replacing(os.path.join(self._folder, 'saved_model')) as path:
      os.makedirs(path)
      with open(os.path.join(path, 'part'), 'w') as file:
        file.write('new')
    self.assertEqual(
      os.listdir(os.path.join(self._folder, 'saved_model')), ['part']
    )

  def test_temporary_name_keeps_the_extension_that_writers_look_at(self):
    target = os.path.join(self._folder, 'model.keras')
    with storage.replacing(target) as path:
      self.assertNotEqual(path, target)
      self.assertTrue(path.endswith('.keras'))
      with open(path, 'w'):
        pass


class DigestTest(absltest.TestCase):
  def test_digest_is_sha256_of_the_bytes(self):
    # FIPS 180-2, appendix B.1: the message 'abc'.
    file = self.create_tempfile(content='abc')
    self.assertEqual(
      run_dir.digest(file.full_path),
      'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
    )

  def test_digest_of_a_large_file_reads_it_all(self):
    content = b'\x00\xff' * 3_000_000
    file = self.create_tempfile()
    file.write_bytes(content)
    self.assertEqual(
      run_dir.digest(file.full_path), hashlib.sha256(content).hexdigest()
    )


if __name__ == '__main__':
  absltest.main()
