"""A recipe's flags: their names, the bounds, and what is refused."""

import dataclasses
import os

from absl.testing import absltest, parameterized

from ft_tf import catalogue, errors, recipe_flags


def _flags():
  return [leaf.flag for leaf in recipe_flags.leaves()]


class LeavesTest(parameterized.TestCase):
  def test_flags_are_unique(self):
    self.assertCountEqual(set(_flags()), _flags())

  @parameterized.parameters(
    'seed',
    'sync_batch_norm',
    'dataset',
    'train_split',
    'test_split',
    'image_size',
    'validation_examples',
    'view_seed',
    'batch_size',
    'rate',
    'reconstruction',
    'method',
    'beta',
    'p',
    'teacher',
    'student',
    'teacher_epochs',
    'paraphraser_epochs',
    'student_epochs',
    'teacher_learning_rate',
    'paraphraser_learning_rate',
    'student_learning_rate',
    'teacher_drop_epochs',
    'student_weight_decay',
  )
  def test_flag_of_the_contract_is_there(self, flag):
    self.assertIn(flag, _flags())

  def test_flag_carries_its_stage_only_where_several_stages_have_it(self):
    for leaf in recipe_flags.leaves():
      with self.subTest(leaf.path):
        same = [
          other
          for other in recipe_flags.leaves()
          if other.field.name == leaf.field.name
        ]
        if leaf.field.name == 'model':
          self.assertEqual(leaf.flag, leaf.group)
        elif len(same) == 1:
          self.assertEqual(leaf.flag, leaf.field.name)
        else:
          self.assertEqual(leaf.flag, f'{leaf.group}_{leaf.field.name}')

  def test_value_and_path_lead_to_the_number(self):
    recipe = catalogue.digits()
    by_flag = {leaf.flag: leaf for leaf in recipe_flags.leaves()}
    self.assertEqual(by_flag['student_epochs'].path, 'student.epochs')
    self.assertEqual(
      by_flag['student_epochs'].value(recipe), recipe.student.epochs
    )
    self.assertEqual(by_flag['seed'].path, 'seed')
    self.assertEqual(by_flag['seed'].value(recipe), 0)

  def test_every_number_of_a_recipe_has_a_flag_and_a_help_line(self):
    recipe = catalogue.digits()
    own = {
      'seed',
      'sync_batch_norm',
      'precision',
      'teacher_layer',
      'student_layer',
      'before_activation',
      'factor_form',
      'new_head',
      'class_weights',
    }
    numbers = own | {
      f'{group}.{field}'
      for group, fields in dataclasses.asdict(recipe).items()
      if isinstance(fields, dict)
      for field in fields
    }
    self.assertEqual({leaf.path for leaf in recipe_flags.leaves()}, numbers)
    for leaf in recipe_flags.leaves():
      self.assertNotEmpty(leaf.field.metadata['help'], leaf.path)


class OverrideTest(parameterized.TestCase):
  def test_values_go_to_their_own_stage_alone(self):
    base = catalogue.digits()
    changed = recipe_flags.override(
      base,
      {'student_epochs': 2, 'teacher': 'vgg13', 'seed': 7, 'mean': (0.4,)},
    )
    self.assertEqual(
      changed,
      dataclasses.replace(
        base,
        seed=7,
        data=dataclasses.replace(base.data, mean=(0.4,)),
        teacher=dataclasses.replace(base.teacher, model='vgg13'),
        student=dataclasses.replace(base.student, epochs=2),
      ),
    )

  def test_without_values_the_recipe_is_the_same(self):
    self.assertEqual(
      recipe_flags.override(catalogue.digits(), {}), catalogue.digits()
    )

  def test_home_in_a_path_is_written_out(self):
    with absltest.mock.patch.dict(os.environ, {'HOME': '/homes/somebody'}):
      changed = recipe_flags.override(
        catalogue.digits(),
        {'teacher': '~/teacher.keras', 'dataset': 'folder:~/images'},
      )
    self.assertEqual(changed.teacher.model, '/homes/somebody/teacher.keras')
    self.assertEqual(changed.data.dataset, 'folder:/homes/somebody/images')

  @parameterized.parameters(
    ('student_learning_rate', -0.1, 'a value above 0'),
    ('student_learning_rate', 0.0, 'a value above 0'),
    ('student_learning_rate', float('nan'), 'a finite number'),
    ('teacher_learning_rate', float('inf'), 'a finite number'),
    ('rate', 0.0, 'a value above 0'),
    ('rate', -0.5, 'a value above 0'),
    ('beta', -1.0, '0 or more'),
    ('beta', float('nan'), 'a finite number'),
    ('student_momentum', -0.1, '0 or more'),
    ('paraphraser_weight_decay', -5e-4, '0 or more'),
    ('student_drop_factor', 0.0, 'a value above 0'),
    ('teacher_warmup_epochs', -1.0, '0 or more'),
    ('student_epochs', 0, '1 or more'),
    ('batch_size', 0, '1 or more'),
    ('image_size', -1, '0 or more'),
    ('validation_examples', -1, '0 or more'),
    ('pad', -1, '0 or more'),
    ('seed', -1, '0 or more'),
    ('view_seed', -1, '0 or more'),
    ('p', 3, 'one of 1, 2'),
    ('kd_alpha', 1.5, '1 or less'),
    ('at_beta', -1.0, '0 or more'),
    ('temperature', 0.0, 'a value above 0'),
    ('reconstruction', 'l3', 'one of l1, l2'),
    ('student_optimizer', 'adam', 'one of sgd, adamw'),
    ('student_backbone_rate', 0.0, 'a value above 0'),
    ('teacher_backbone_rate', 2.0, '1 or less'),
    ('student_ema', 1.0, '0.99999 or less'),
    ('label_smoothing', 1.5, '1 or less'),
    ('rand_augment_magnitude', 31.0, '30 or less'),
    ('rand_augment_ops', 0, '1 or more'),
    ('mixup_alpha', -0.1, '0 or more'),
    ('cutmix_alpha', float('inf'), 'a finite number'),
  )
  def test_value_out_of_bounds_is_refused_by_flag(self, flag, value, wanted):
    with self.assertRaisesRegex(
      errors.UsageError, f'^--{flag}={value}: .*; give {wanted}'
    ):
      recipe_flags.override(catalogue.digits(), {flag: value})

  @parameterized.parameters(
    ('beta', 0.0),
    ('rate', 4.0),
    ('p', 2),
    ('reconstruction', 'l2'),
    ('method', 'scratch'),
    ('method', 'ft+kd'),
    ('beta', 'auto'),
    ('kd_alpha', 1.0),
    ('student_weight_decay', 0.0),
    ('student_drop_epochs', ()),
    ('validation_examples', 0),
    ('pad', 0),
    ('rand_augment_magnitude', 30.0),
  )
  def test_value_on_the_bound_is_taken(self, flag, value):
    changed = recipe_flags.override(catalogue.digits(), {flag: value})
    (leaf,) = (leaf for leaf in recipe_flags.leaves() if leaf.flag == flag)
    self.assertEqual(leaf.value(changed), value)

  @parameterized.parameters('image_size', 'student_image_size')
  def test_size_is_one_number_or_height_and_width(self, flag):
    (leaf,) = (leaf for leaf in recipe_flags.leaves() if leaf.flag == flag)
    for given, kept in {
      '96': 96,
      96: 96,
      '96x96': 96,
      '96x160': '96x160',
      (96, 160): '96x160',
      '0': 0,
    }.items():
      changed = recipe_flags.override(catalogue.digits(), {flag: given})
      self.assertEqual(leaf.value(changed), kept)
    for wrong in ('96x', '0x5', '-1', '96x160x3', (96, 160, 3)):
      with self.assertRaises(errors.UsageError) as error:
        recipe_flags.override(catalogue.digits(), {flag: wrong})
      message = str(error.exception)
      self.assertStartsWith(message, f'--{flag}={wrong}: ')
      self.assertEndsWith(message, 'height and width, such as 96x160')
      self.assertNotIn('\n', message)

  @parameterized.parameters(
    ('std', (0.0,), '--std=0.0: .*a value above 0'),
    ('mean', (float('nan'),), '--mean=nan: .*a finite number'),
    ('student_drop_epochs', (3, 0), '--student_drop_epochs=0: .*1 or more'),
  )
  def test_each_value_of_a_list_is_checked(self, flag, value, message):
    with self.assertRaisesRegex(errors.UsageError, message):
      recipe_flags.override(catalogue.digits(), {flag: value})

  def test_mean_and_std_of_different_lengths_are_refused(self):
    with self.assertRaisesRegex(
      errors.UsageError,
      '--mean has 3 channels and --std 1; give one value per channel',
    ):
      recipe_flags.override(catalogue.digits(), {'mean': (0.1, 0.2, 0.3)})

  @parameterized.parameters(
    (
      'method',
      'nope',
      '--method=nope: give scratch, one of at, .*sp, a sum',
    ),
    ('method', 'ft+ft', r'--method=ft\+ft: .*different ones'),
    ('method', 'ft+ft_no_translator', 'different ones'),
    ('method', 'scratch+kd', 'give scratch, one of'),
    ('beta', 'much', '--beta=much: .*; give a number, or auto'),
  )
  def test_method_and_beta_that_are_none_are_refused(
    self, flag, value, message
  ):
    with self.assertRaisesRegex(errors.UsageError, message):
      recipe_flags.override(catalogue.digits(), {flag: value})

  def test_weights_of_classes_with_kerass_own_distiller_are_refused(self):
    with self.assertRaisesRegex(
      errors.UsageError,
      "--class_weights=balanced: --method=keras_distiller is Keras's own",
    ):
      recipe_flags.override(
        catalogue.digits(),
        {'class_weights': 'balanced', 'method': 'keras_distiller'},
      )

  def test_smoothed_labels_with_kerass_own_distiller_are_refused(self):
    with self.assertRaisesRegex(
      errors.UsageError,
      "^--label_smoothing=0.1: --method=keras_distiller is Keras's own .*; "
      'give another --method, or --label_smoothing=0$',
    ):
      recipe_flags.override(
        catalogue.digits(),
        {'label_smoothing': 0.1, 'method': 'keras_distiller'},
      )

  def test_momentum_that_adamw_cannot_have_is_refused(self):
    with self.assertRaisesRegex(
      errors.UsageError, '^--teacher_momentum=1.0: .*; give less than 1$'
    ):
      recipe_flags.override(
        catalogue.digits(),
        {'teacher_optimizer': 'adamw', 'teacher_momentum': 1.0},
      )

  def test_mixed_images_with_kerass_own_distiller_are_refused(self):
    for flag in ('mixup_alpha', 'cutmix_alpha'):
      with self.assertRaisesRegex(
        errors.UsageError, "=keras_distiller is Keras's own .* one label"
      ):
        recipe_flags.override(
          catalogue.digits(), {flag: 0.5, 'method': 'keras_distiller'}
        )

  def test_padding_with_random_crops_is_refused(self):
    with self.assertRaisesRegex(errors.UsageError, 'give --pad=0'):
      recipe_flags.override(
        catalogue.get('imagenet_resnet34_resnet18'), {'pad': 4}
      )

  def test_recipe_given_stays_as_it_was(self):
    base = catalogue.digits()
    recipe_flags.override(base, {'beta': 1.0})
    self.assertEqual(base, catalogue.digits())


if __name__ == '__main__':
  absltest.main()
