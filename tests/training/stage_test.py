"""The skeleton of a stage: what identifies a run, and when it is claimed."""

import json
import os

from absl.testing import absltest, parameterized

from ft_tf import catalogue, errors, recipes, run_dir
from ft_tf.training import stage
from tests import fixtures

# The recipe `digits` as runs of earlier versions have it in their recipe.json.
# Change it only if those runs shall not be continued.
_DIGITS = {
  'before_activation': False,
  'data': {
    'batch_size': 32,
    'channels': 0,
    'dataset': 'digits',
    'flip': False,
    'image_size': 16,
    'max_bad_files': 0,
    'mean': [0.306],
    'pad': 2,
    'resizing': 'stretch',
    'std': [0.319],
    'test_split': 'test',
    'train_split': 'train',
    'unlabeled': '',
    'validation_examples': 200,
    'view_seed': 0,
    'views': 0,
  },
  'paraphraser': {
    'decay': 'steps',
    'drop_epochs': [],
    'drop_factor': 0.1,
    'epochs': 40,
    'learning_rate': 0.1,
    'momentum': 0.9,
    'rate': 0.5,
    'reconstruction': 'l1',
    'warmup_epochs': 0.0,
    'weight_decay': 0.0005,
  },
  'precision': 'float32',
  'seed': 0,
  'student': {
    'at_beta': 10.0,
    'beta': 60.0,
    'beta_elements': 512,
    'beta_ratio': 1.0,
    'decay': 'steps',
    'dkd_alpha': 1.0,
    'dkd_beta': 0.5,
    'drop_epochs': [4, 6],
    'drop_factor': 0.1,
    'epochs': 8,
    'fitnet_weight': 10.0,
    'kd_alpha': 0.5,
    'learning_rate': 0.1,
    'method': 'ft',
    'model': 'resnet8x0.5',
    'momentum': 0.9,
    'normalized': 'elements',
    'ofd_weight': 0.001,
    'p': 1,
    'sp_gamma': 100.0,
    'student_image_size': 0,
    'temperature': 4.0,
    'translator_batch_norm': False,
    'warmup_epochs': 0.0,
    'weight_decay': 0.0005,
  },
  'student_layer': '-2',
  'sync_batch_norm': False,
  'teacher': {
    'decay': 'steps',
    'drop_epochs': [40, 60],
    'drop_factor': 0.1,
    'epochs': 80,
    'learning_rate': 0.1,
    'model': 'resnet20',
    'momentum': 0.9,
    'preprocessing': 'none',
    'teacher_outputs': 'auto',
    'teacher_weights': '',
    'warmup_epochs': 0.0,
    'weight_decay': 0.0005,
  },
  'teacher_layer': '-2',
}


class IdentityTest(parameterized.TestCase):
  def test_recipe_of_an_earlier_version_is_the_same(self):
    recipe = json.loads(json.dumps(recipes.identity(catalogue.digits())))
    self.assertEqual(recipe, _DIGITS)

  def test_training_in_int8_is_no_part_of_the_student(self):
    plain, other = (
      fixtures.recipe(**values) for values in ({}, {'qat_epochs': 4})
    )
    for name in ('teacher', 'paraphraser', 'student'):
      self.assertEqual(stage.identity(name, plain), stage.identity(name, other))
    self.assertNotEqual(
      stage.identity('qat', plain), stage.identity('qat', other)
    )
    self.assertNotIn('qat', recipes.identity(plain))
    self.assertEqual(recipes.identity(other)['qat']['epochs'], 4)

  def test_new_head_counts_where_it_was_asked_for(self):
    plain, other = (
      fixtures.recipe(**values) for values in ({}, {'new_head': True})
    )
    self.assertEqual(
      stage.identity('paraphraser', plain), stage.identity('paraphraser', other)
    )
    for name in ('teacher', 'student', 'qat'):
      self.assertNotIn('new_head', stage.identity(name, plain))
      self.assertTrue(stage.identity(name, other)['new_head'])
    self.assertNotIn('new_head', recipes.identity(plain))
    self.assertTrue(recipes.identity(other)['new_head'])

  def test_what_decays_counts_in_its_stage_where_it_was_chosen(self):
    plain = fixtures.recipe()
    other = fixtures.recipe(student_weight_decay_on='kernels')
    self.assertEqual(
      stage.identity('teacher', plain), stage.identity('teacher', other)
    )
    student = stage.identity('student', other)['student']
    self.assertEqual(student['weight_decay_on'], 'kernels')
    self.assertNotIn('weight_decay_on', recipes.identity(plain)['student'])

  @parameterized.parameters(
    ('student_optimizer', 'adamw'),
    ('student_backbone_rate', 0.1),
    ('student_ema', 0.9),
    ('label_smoothing', 0.1),
  )
  def test_number_of_the_student_counts_where_it_was_chosen(self, flag, value):
    plain, other = fixtures.recipe(), fixtures.recipe(**{flag: value})
    name = flag.removeprefix('student_')
    self.assertEqual(
      stage.identity('teacher', plain), stage.identity('teacher', other)
    )
    self.assertEqual(stage.identity('student', other)['student'][name], value)
    self.assertNotIn(name, recipes.identity(plain)['student'])
    self.assertNotIn(name, recipes.identity(plain)['teacher'])

  def test_form_of_factors_counts_where_it_was_chosen(self):
    plain, other = (
      fixtures.recipe(**values) for values in ({}, {'factor_form': 'paper'})
    )
    self.assertEqual(
      stage.identity('teacher', plain), stage.identity('teacher', other)
    )
    for name in ('paraphraser', 'student', 'qat'):
      self.assertNotIn('factor_form', stage.identity(name, plain))
      self.assertEqual(stage.identity(name, other)['factor_form'], 'paper')
    self.assertNotIn('factor_form', recipes.identity(plain))
    self.assertEqual(recipes.identity(other)['factor_form'], 'paper')

  def test_weights_of_classes_count_where_labels_do(self):
    plain, other = (
      fixtures.recipe(**values)
      for values in ({}, {'class_weights': 'balanced'})
    )
    self.assertEqual(
      stage.identity('paraphraser', plain), stage.identity('paraphraser', other)
    )
    for name in ('teacher', 'student', 'qat'):
      self.assertNotIn('class_weights', stage.identity(name, plain))
      self.assertEqual(stage.identity(name, other)['class_weights'], 'balanced')
    self.assertNotIn('class_weights', recipes.identity(plain))
    self.assertEqual(recipes.identity(other)['class_weights'], 'balanced')

  @parameterized.parameters(
    ('teacher', ()),
    ('paraphraser', ('before_activation', 'teacher_layer')),
    ('student', ('before_activation', 'teacher_layer', 'student_layer')),
  )
  def test_stage_of_an_earlier_version_is_the_same(self, name, layers):
    identity = stage.identity(name, catalogue.digits())
    every_stage = ('seed', 'sync_batch_norm', 'precision', 'data')
    self.assertEqual(
      json.loads(json.dumps(identity)),
      {'stage': name}
      | {key: _DIGITS[key] for key in (*every_stage, *layers, name)},
    )

  @parameterized.parameters('teacher', 'paraphraser', 'student', 'qat')
  def test_augmentations_count_in_every_stage_and_only_if_they_are_on(
    self, name
  ):
    plain = stage.identity(name, fixtures.recipe())['data']
    for flag, value in fixtures.AUGMENTED.items():
      self.assertNotIn(flag, plain)
      data = stage.identity(name, fixtures.recipe(**{flag: value}))['data']
      self.assertEqual(data, {**plain, flag: value})

  def test_other_stages_numbers_do_not_count(self):
    one = stage.identity('teacher', fixtures.recipe())
    self.assertEqual(one, stage.identity('teacher', fixtures.recipe(beta=1.0)))
    other = stage.identity('teacher', fixtures.recipe(teacher_epochs=4))
    self.assertNotEqual(one, other)

  def test_content_of_a_file_counts_and_its_place_does_not(self):
    folder = self.create_tempdir()
    a, b, c = (
      stage.identity(
        'student',
        fixtures.recipe(),
        teacher=run_dir.digest(folder.create_file(name, content).full_path),
      )
      for name, content in (('a', 'x'), ('b', 'x'), ('c', 'y'))
    )
    self.assertEqual(a, b)
    self.assertNotEqual(a, c)


class ClaimTest(absltest.TestCase):
  def test_batch_that_does_not_split_is_refused_and_nothing_written(self):
    run = run_dir.RunDir(os.path.join(self.create_tempdir().full_path, 'new'))
    recipe = fixtures.recipe(batch_size=15)
    with (
      self.assertRaisesRegex(errors.UsageError, '--batch_size=15'),
      stage.claim(run, {}, fixtures.strategy(2), recipe, fixtures.blobs()),
    ):
      pass
    self.assertFalse(os.path.exists(run.path))


if __name__ == '__main__':
  absltest.main()
