"""Claims that end in an error, and folders that are deleted or strange."""

import json
import os
import shutil

from absl.testing import absltest, parameterized

from ft_tf import errors, run_dir

_RECIPE = {'seed': 0, 'student': {'rate': 0.01}}
_CORRECTED = {'seed': 0, 'student': {'rate': 0.5}}
_STAGE = {'stage': 'teacher', 'seed': 0}


class HeldCase(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self._scratch = self.create_tempdir().full_path
    self._path = os.path.join(self._scratch, 'runs', 'first')

  def _run(self, *names):
    return run_dir.RunDir(os.path.join(self._path, *names))

  def _fail(self, recipe, work=lambda run: None, error=errors.UsageError):
    """Works in the folder, and ends in an error."""
    run = self._run()
    with self.assertRaises(error) as caught, run.held(recipe):
      work(run)
      raise error('too small: give more')
    return str(caught.exception)

  def _train(self, *names, recipe=_STAGE):
    """Leaves a complete stage in a folder within."""
    run = self._run(*names)
    with run.held(recipe):
      with open(run.model, 'w') as file:
        file.write('weights')
      run.write('result.json', {'method': 'teacher', 'steps': 3})


class UsageErrorTest(HeldCase):
  def test_nothing_is_left_where_nothing_was_trained(self):
    def work(run):
      run.append_metrics({'step': 1})
      run.write('candidates.json', {})
      os.makedirs(run.checkpoints)
      with run.child('student').held({'stage': 'student'}):
        pass
      shutil.rmtree(run.child('student').path)

    self._fail(_RECIPE, work)
    self.assertEmpty(os.listdir(self._scratch))

  def test_files_of_others_stay(self):
    os.makedirs(self._path)
    for name in ('notes.txt', 'plan.json'):
      with open(os.path.join(self._path, name), 'w') as file:
        file.write('mine')
    self._fail(_RECIPE, lambda run: open(f'{run.path}/log.txt', 'w').close())
    self.assertCountEqual(
      os.listdir(self._path), ['notes.txt', 'plan.json', 'log.txt']
    )

  def test_error_within_undoes_the_folders_within_too(self):
    run = self._run()
    with self.assertRaises(errors.UsageError), run.held(_RECIPE):
      with run.child('comparison/ft-0').held({'stage': 'student'}):
        raise errors.UsageError('too small')
    self.assertEmpty(os.listdir(self._scratch))

  def test_corrected_recipe_is_taken_and_what_is_trained_stays(self):
    self._fail(_RECIPE, lambda run: self._train('teacher'))
    run = self._run()
    self.assertTrue(run.begun())
    self.assertFalse(run.settled())
    with run.held(_CORRECTED):
      self.assertEqual(run.read('recipe.json'), _CORRECTED)
      self.assertIsNotNone(run.child('teacher').read('result.json'))
    self.assertTrue(run.settled())
    with self.assertRaisesRegex(errors.UsageError, 'student.rate: 0.5 saved'):
      run.check(_RECIPE)

  def test_correction_must_not_change_what_is_trained(self):
    self._fail(_RECIPE, lambda run: self._train('teacher'))
    run = self._run()
    with self.assertRaisesRegex(errors.UsageError, 'seed: 0 saved, 1 given'):
      with run.held({**_CORRECTED, 'seed': 1}):
        self._train('teacher', recipe={**_STAGE, 'seed': 1})
    # The right one is still taken.
    with run.held(_CORRECTED):
      self._train('teacher')

  def test_claim_of_an_earlier_process_can_be_corrected(self):
    run = self._run()
    with self.assertRaises(KeyboardInterrupt), run.held(_RECIPE):
      raise KeyboardInterrupt
    with self.assertRaisesRegex(errors.UsageError, 'another recipe'):
      run.check(_CORRECTED)
    self._fail(_RECIPE)
    with run.held(_CORRECTED):
      pass

  def test_stage_with_checkpoints_keeps_its_recipe(self):
    def work(run):
      os.makedirs(run.checkpoints)
      open(os.path.join(run.checkpoints, 'ckpt-2.index'), 'w').close()

    self._fail(_STAGE, work)
    with self.assertRaisesRegex(errors.UsageError, 'seed: 0 saved, 1 given'):
      self._run().check({**_STAGE, 'seed': 1})
    with self._run().held(_STAGE):
      pass

  def test_complete_run_is_not_corrected(self):
    self._train()
    self._fail(_STAGE)
    with self.assertRaisesRegex(errors.UsageError, 'another recipe'):
      self._run().check({**_STAGE, 'seed': 1})

  def test_failed_run_keeps_its_folder(self):
    self._fail(_RECIPE, error=errors.TrainingError)
    self.assertTrue(self._run().settled())


class GoneTest(HeldCase):
  @parameterized.parameters(
    lambda run: run.append_metrics({'step': 1}),
    lambda run: run.write('result.json', {}),
    lambda run: run.write_picture(1, b'png'),
    lambda run: open(run.model, 'w'),
  )
  def test_deleted_folder_is_a_line_and_does_not_come_back(self, work):
    run = self._run()
    with self.assertRaisesRegex(
      errors.TrainingError, 'first was deleted or moved .*put it back'
    ):
      with run.held(_RECIPE):
        shutil.rmtree(self._path)
        work(run)
    self.assertFalse(os.path.exists(self._path))

  def test_moved_folder_continues_where_it_is_put_back(self):
    run, elsewhere = self._run(), os.path.join(self._scratch, 'moved')
    with self.assertRaisesRegex(errors.TrainingError, 'deleted or moved'):
      with run.held(_RECIPE):
        os.rename(self._path, elsewhere)
        os.makedirs(self._path)
        run.append_metrics({'step': 1})
    os.rmdir(self._path)
    os.rename(elsewhere, self._path)
    with run.held(_RECIPE):
      pass

  def test_folder_of_it_all_that_is_deleted_is_a_line(self):
    run = self._run()
    with self.assertRaisesRegex(errors.TrainingError, 'first was deleted'):
      with run.held(_RECIPE), run.child('student').held(_STAGE):
        shutil.rmtree(self._path)
        run.child('student').write('result.json', {})
        open(run.child('student').model, 'w')


class StrangeFilesTest(HeldCase):
  @parameterized.parameters(
    'result.json', 'metrics.jsonl', 'model.keras', 'best.keras', 'report.html'
  )
  def test_results_without_a_recipe_are_refused(self, name):
    self._train(recipe=_STAGE)
    with self._run().held(_STAGE):
      self._run().append_metrics({'step': 1})
    for each in os.listdir(self._path):
      if each != name:
        os.remove(os.path.join(self._path, each))
    open(os.path.join(self._path, name), 'a').close()
    with self.assertRaisesRegex(
      errors.UsageError, f'first holds {name} .*no recipe.json.*put back'
    ):
      self._run().claim(_STAGE)
    self.assertEqual(os.listdir(self._path), [name])

  @parameterized.parameters('', '{', '[]', '3', '"x"', '\xff\xfe', '{"seed": 0')
  def test_damaged_recipe_is_a_line(self, text):
    self._train()
    with open(os.path.join(self._path, 'recipe.json'), 'wb') as file:
      file.write(text.encode('latin-1'))
    with self.assertRaisesRegex(
      errors.UsageError, r'recipe\.json is damaged .*put back a copy'
    ):
      self._run().check(_STAGE)

  @parameterized.parameters(
    '{"seed": "0"}',
    '{"data": []}',
    '{"data": {"image_size": [8]}}',
    '{"student": {"method": 1}}',
  )
  def test_recipe_of_other_types_is_a_line(self, text):
    self._train()
    with open(os.path.join(self._path, 'recipe.json'), 'w') as file:
      file.write(text)
    with self.assertRaisesRegex(
      errors.UsageError, r'recipe\.json is damaged \(its values are of other ty'
    ):
      self._run().check(_STAGE)

  def test_rows_of_other_types_are_none(self):
    self._train()
    with open(os.path.join(self._path, 'metrics.jsonl'), 'w') as file:
      file.write('{"step": 1, "loss": "x"}\n[1]\n{"step": 2, "loss": null}\n')
      file.write('{"step": 3, "loss": {}}\n{"step": true}\n')
    self.assertEqual(self._run().metrics(), [{'step': 2, 'loss': None}])

  def test_damaged_environment_begins_anew(self):
    self._train()
    with open(os.path.join(self._path, 'environment.json'), 'w') as file:
      file.write('[{"command": ')
    with self._run().held(_STAGE):
      self.assertLen(self._run().read('environment.json'), 1)
    self.assertIn('environment.json.damaged', os.listdir(self._path))

  def test_changed_result_is_none(self):
    self._train()
    path = os.path.join(self._path, 'result.json')
    with open(path) as file:
      value = json.load(file)
    with open(path, 'w') as file:
      json.dump({**value, 'steps': 4}, file)
    self.assertIsNone(self._run().read('result.json'))
    # Those of earlier versions have no checksum.
    del value['checksum']
    with open(path, 'w') as file:
      json.dump(value, file)
    self.assertEqual(self._run().read('result.json'), value)


if __name__ == '__main__':
  absltest.main()
