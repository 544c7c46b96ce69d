"""A comparison's run folders, made by hand for the tests of its report."""

import json
import os

from absl.testing import absltest

from ft_tf import run_dir

_RECIPE = {
  'data': {
    'dataset': 'digits',
    'test_split': 'test',
    'batch_size': 32,
    'validation_examples': 200,
  },
  'teacher': {'model': '/models/big.keras'},
  'student': {'model': 'resnet8x0.5', 'epochs': 8},
}
_ENVIRONMENT = {
  'command': ['python3', 'bin/compare.py'],
  'started': '2025-01-31T12:00:00+00:00',
  'python': '3.11.7',
  'machine': 'x86_64, 2 cores',
  'packages': {'tensorflow': '2.21.0'},
}


class TestCase(absltest.TestCase):
  """Has a folder with a teacher, five seeds of two arms and one of a third."""

  def setUp(self):
    super().setUp()
    self.folder = self.create_tempdir()
    self.root = run_dir.RunDir(self.folder.full_path)
    self.write_json('recipe.json', _RECIPE)
    self.write_json('environment.json', [_ENVIRONMENT])
    self.write_json('plan.json', ['scratch', 'kd', 'ft'])
    self.write_run('teacher', 'teacher', None, 0.96, parameters=4000)
    for seed in range(5):
      self.write_run(f'runs/ft-{seed}', 'ft', seed, 0.90 + 0.01 * seed)
      self.write_run(
        f'runs/scratch-{seed}', 'scratch', seed, 0.88 + 0.009 * seed
      )
    self.write_run('runs/kd-1', 'kd', 1, 0.87)
    self.write_json('runs/kd-0/recipe.json', {})  # not finished
    self.write_json(
      'paraphrasers/k0.5/result.json',
      {
        'reconstruction': 0.1234,
        'reconstruction_of_mean': 0.5678,
        'factors': 32,
        'dead_factors': 3,
      },
    )

  def write_json(self, name, value):
    self.folder.create_file(name, json.dumps(value))

  def write_run(self, name, method, seed, accuracy, parameters=100):
    student = {
      'best_accuracy': accuracy + 0.01,
      'teacher_agreement': accuracy - 0.01,
      'teacher_divergence': 0.25,
    }
    self.write_json(
      f'{name}/result.json',
      {
        'method': method,
        'seed': seed,
        'accuracy': accuracy,
        'calibration_error': 0.05,
        'parameters': parameters,
        'wall_seconds': 12.3,
        **({} if method == 'teacher' else student),
      },
    )
    rows = [
      {
        'step': e,
        'epoch': e,
        'cross_entropy': 1.0,
        'validation_accuracy': accuracy,
      }
      for e in (1, 2)
    ]
    self.folder.create_file(
      f'{name}/metrics.jsonl', ''.join(json.dumps(r) + '\n' for r in rows)
    )

  def read_text(self, name):
    with open(os.path.join(self.root.path, name), encoding='utf-8') as file:
      return file.read()
