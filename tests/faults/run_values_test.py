"""JSON files of runs with values that no run writes: a line, no traceback."""

import contextlib
import io
import json
import os

from absl.testing import absltest, parameterized

from ft_tf import errors, json_files, run_dir
from ft_tf.progress import plan
from ft_tf.report import closing, model_card, page, run_list
from ft_tf.training import loop, pending, quantisation_aware, restoring

_RECIPE = {'stage': 'teacher', 'seed': 0, 'data': {'dataset': 'digits'}}


class ValuesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.run = run_dir.RunDir(self.create_tempdir().full_path)

  def _write(self, name, value):
    path = os.path.join(self.run.path, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w', encoding='utf-8') as file:
      file.write(json.dumps(value))

  @parameterized.named_parameters(
    ('other_type', 'result.json', {'seed': []}),
    ('long_integer', 'recipe.json', {'seed': 10**400}),
    ('plan', 'plan.json', [1]),
    ('ranges', 'ranges.json', {'x': 1}),
    ('choice', 'candidates.json', {'student': None, 'candidates': []}),
    ('no_choice', 'candidates.json', {'student': 'resnet8'}),
    (
      'no_file',
      'candidates.json',
      {'student': 'x', 'candidates': [{'name': 'x'}]},
    ),
  )
  def test_value_of_another_type_or_none_is_damage(self, name, value):
    self._write(name, value)
    with self.assertRaisesRegex(errors.UsageError, 'is damaged'):
      json_files.load(os.path.join(self.run.path, name))

  @parameterized.parameters({}, {'arena_bytes': 9})
  def test_choice_of_a_student_is_read(self, **more):
    file = {'bytes': 9, 'latency_ms': 0.5, **more}
    candidate = {'name': 'resnet8', 'parameters': 9, 'files': {'int8': file}}
    choice = {'student': 'resnet8', 'candidates': [candidate]}
    self._write('candidates.json', choice)
    self.assertEqual(self.run.read('candidates.json'), choice)

  @parameterized.named_parameters(
    ('closing', closing.describe_compression),
    ('page', page.write),
    ('card', model_card.write),
  )
  def test_report_names_the_folder_whose_values_are_missing(self, report):
    self._write('recipe.json', {})
    self._write('teacher/result.json', {'accuracy': 0.5})
    self._write('export/export.json', {'student.keras': {}})
    with self.assertRaisesRegex(
      errors.UsageError, f'JSON file in {self.run.path} .*put back'
    ) as caught:
      report(self.run)
    self.assertNotIn('\n', str(caught.exception))

  def test_error_of_usage_within_stays_as_it_is(self):
    with (
      self.assertRaisesRegex(errors.UsageError, '^mine$'),
      json_files.explained(self.run.path),
    ):
      raise errors.UsageError('mine')

  def test_run_that_cannot_be_shown_is_said_and_left_out(self):
    self._write('whole/recipe.json', _RECIPE)
    self._write('long/recipe.json', _RECIPE)
    self._write('long/result.json', {'accuracy': 0.5, 'wall_seconds': 1e300})
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
      rows = run_list.find(self.run.path)
    self.assertEqual([row['run'] for row in rows], ['whole'])
    self.assertIn(f'{self.run.path}/long', said.getvalue())

  def test_row_without_numbers_tells_no_pace_and_no_accuracy(self):
    rows = [{'step': 1}, {'step': 2, 'wall_seconds': None}]
    with open(os.path.join(self.run.path, 'metrics.jsonl'), 'w') as file:
      file.write(json_files.to_lines(rows))
    part = plan.Part(path=self.run.path, name='x', kind='x')
    self.assertEqual(plan.Clock([part])._paces, {})
    self.assertEqual(loop._accuracy({'validation_accuracy': None}), -1.0)

  @parameterized.named_parameters(
    ('ranges', 'ranges.json', {'x': [1.0]}, quantisation_aware.read_ranges),
    (
      'pending',
      'checkpoints/ckpt-3.pending.json',
      {'first': 0, 'terms': {'loss': ['x']}},
      lambda run: pending.load(run, 3),
    ),
  )
  def test_values_of_a_stage_are_refused(self, name, value, read):
    self._write(name, value)
    with self.assertRaisesRegex(errors.UsageError, 'put back copies'):
      read(self.run)

  @parameterized.named_parameters(
    ('no_rows', {'files': {}, 'logged': {}}),
    ('digest', {'files': {'x': 1}, 'logged': {'rows': 0, 'sha256': ''}}),
    (
      'last_row',
      {'files': {}, 'logged': {'rows': 1, 'sha256': '', 'last': {'x': 1}}},
    ),
  )
  def test_record_of_a_checkpoint_with_other_values_is_none(self, record):
    self._write('checkpoints/ckpt-3.json', {'step': 3, **record})
    self.assertIsNone(restoring.Checkpoints(None, self.run)._record(3))


if __name__ == '__main__':
  absltest.main()
