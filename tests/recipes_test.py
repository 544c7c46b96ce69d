"""Recipes: the numbers of their sources, the flags' names, the bounds."""

import dataclasses

from absl.testing import absltest, parameterized

from ft_tf import errors, recipes


def _flags():
  return [leaf.flag for leaf in recipes.leaves()]


class PublicRecipeTest(parameterized.TestCase):
  """Against the table read in Jangho-Kim/Factor-Transfer-pytorch."""

  def test_networks_and_data_equal_the_public_codes(self):
    recipe = recipes.cifar10_resnet56_resnet20()
    self.assertEqual(recipe.teacher.model, 'resnet56')
    self.assertEqual(recipe.student.model, 'resnet20')
    self.assertEqual(recipe.data.dataset, 'cifar10')
    self.assertEqual(recipe.data.mean, (0.4914, 0.4822, 0.4465))
    self.assertEqual(recipe.data.std, (0.2023, 0.1994, 0.2010))
    self.assertEqual(recipe.data.batch_size, 128)
    self.assertEqual(recipe.data.pad, 4)
    self.assertTrue(recipe.data.flip)
    self.assertEqual(recipe.data.image_size, 0)

  @parameterized.parameters('teacher', 'student')
  def test_networks_train_164_epochs_with_drops_after_82_and_123(self, stage):
    stage = getattr(recipes.cifar10_resnet56_resnet20(), stage)
    self.assertEqual(stage.epochs, 164)
    self.assertEqual(stage.drop_epochs, (82, 123))
    self.assertEqual(stage.drop_factor, 0.1)

  @parameterized.parameters('teacher', 'paraphraser', 'student')
  def test_sgd_equals_the_public_codes_in_every_stage(self, stage):
    stage = getattr(recipes.cifar10_resnet56_resnet20(), stage)
    self.assertEqual(stage.learning_rate, 0.1)
    self.assertEqual(stage.momentum, 0.9)
    self.assertEqual(stage.weight_decay, 5e-4)
    self.assertEqual(stage.warmup_epochs, 0)

  def test_paraphraser_trains_6_epochs_of_l1_at_rate_half(self):
    paraphraser = recipes.cifar10_resnet56_resnet20().paraphraser
    self.assertEqual(paraphraser.epochs, 6)
    self.assertEqual(paraphraser.drop_epochs, ())
    self.assertEqual(paraphraser.reconstruction, 'l1')
    self.assertEqual(paraphraser.rate, 0.5)

  def test_student_weighs_the_l1_factor_loss_500(self):
    student = recipes.cifar10_resnet56_resnet20().student
    self.assertEqual(student.method, 'ft')
    self.assertEqual(student.beta, 500)
    self.assertEqual(student.p, 1)


class GetTest(parameterized.TestCase):
  @parameterized.parameters(*recipes.RECIPES)
  def test_recipe_is_in_bounds(self, name):
    recipes.check(recipes.get(name))

  @parameterized.parameters(*recipes.RECIPES)
  def test_numbers_have_the_types_their_flags_parse(self, name):
    recipe = recipes.get(name)
    for leaf in recipes.leaves():
      value = leaf.value(recipe)
      kind = leaf.field.type
      with self.subTest(leaf.flag):
        if isinstance(value, tuple):
          kind = kind.__args__[0]
        else:
          value = (value,)
        for each in value:
          self.assertIsInstance(each, kind)
          self.assertNotIsInstance(each, bool if kind is int else ())

  def test_unknown_name_is_refused_naming_the_known_ones(self):
    with self.assertRaisesRegex(
      errors.UsageError,
      "'cifar11'.*--recipe takes one of cifar100_.*, cifar10_.*, digits",
    ):
      recipes.get('cifar11')

  def test_recipe_cannot_be_changed_by_accident(self):
    with self.assertRaises(dataclasses.FrozenInstanceError):
      recipes.digits().student.beta = 3.0


class MethodsTest(parameterized.TestCase):
  @parameterized.parameters(
    ('scratch', (), False),
    ('kd', ('kd',), False),
    ('ft', ('ft',), True),
    ('ft_no_paraphraser', ('ft_no_paraphraser',), False),
    ('ft_no_translator+kd', ('ft_no_translator', 'kd'), True),
  )
  def test_terms_of_a_method_and_whether_they_need_a_paraphraser(
    self, method, terms, needs
  ):
    self.assertEqual(recipes.terms(method), terms)
    self.assertEqual(recipes.needs_paraphraser(method), needs)

  @parameterized.parameters(*recipes.VARIANTS)
  def test_variant_is_a_change_of_any_recipe(self, name):
    base = recipes.cifar10_resnet56_resnet20()
    changed = recipes.override(base, recipes.VARIANTS[name])
    self.assertNotEqual(changed, base)
    self.assertEqual(changed.student.method, 'ft')


class ShortTest(parameterized.TestCase):
  def test_short_recipe_is_ten_epochs_of_one_cycle(self):
    long = recipes.get('cifar10_resnet56_resnet20')
    short = recipes.get('cifar10_resnet56_resnet20_short')
    for stage in ('teacher', 'student'):
      its = getattr(short, stage)
      self.assertEqual((its.epochs, its.decay), (10, 'cosine'))
      self.assertEqual((its.warmup_epochs, its.learning_rate), (3.0, 0.2))
      self.assertEqual(its.model, getattr(long, stage).model)
    self.assertEqual(short.data, long.data)
    self.assertEqual(short.student.beta, long.student.beta)

  def test_every_row_of_the_paper_has_a_short_recipe(self):
    named = recipes.RECIPES.keys() - {'digits', recipes.DEFAULT}
    long = {name for name in named if not name.endswith('_short')}
    self.assertEqual(named, long | {f'{name}_short' for name in long})

  @parameterized.parameters(
    ('cifar10_wrn40x1_resnet20', 'wrn-40-1', 'resnet20', 164),
    ('cifar10_wrn46x4_vgg13', 'wrn-46-4', 'vgg13', 164),
    ('cifar10_wrn16x2_wrn16x1', 'wrn-16-2', 'wrn-16-1', 164),
    ('cifar100_resnet110_resnet56', 'resnet110', 'resnet56', 164),
    ('cifar100_resnet110_resnet20', 'resnet110', 'resnet20', 164),
    ('cifar100_resnet56_resnet20', 'resnet56', 'resnet20', 240),
    ('cifar100_resnet32x4_resnet8x4', 'resnet32x4', 'resnet8x4', 240),
    ('cifar100_wrn40x2_wrn16x2', 'wrn-40-2', 'wrn-16-2', 240),
  )
  def test_networks_and_lengths(self, name, teacher, student, epochs):
    recipe = recipes.get(name)
    self.assertEqual(recipe.teacher.model, teacher)
    self.assertEqual(recipe.student.model, student)
    self.assertEqual(recipe.student.epochs, epochs)
    self.assertEqual(recipe.data.dataset, name.partition('_')[0])


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
    for leaf in recipes.leaves():
      with self.subTest(leaf.path):
        same = [
          other
          for other in recipes.leaves()
          if other.field.name == leaf.field.name
        ]
        if leaf.field.name == 'model':
          self.assertEqual(leaf.flag, leaf.group)
        elif len(same) == 1:
          self.assertEqual(leaf.flag, leaf.field.name)
        else:
          self.assertEqual(leaf.flag, f'{leaf.group}_{leaf.field.name}')

  def test_value_and_path_lead_to_the_number(self):
    recipe = recipes.digits()
    by_flag = {leaf.flag: leaf for leaf in recipes.leaves()}
    self.assertEqual(by_flag['student_epochs'].path, 'student.epochs')
    self.assertEqual(
      by_flag['student_epochs'].value(recipe), recipe.student.epochs
    )
    self.assertEqual(by_flag['seed'].path, 'seed')
    self.assertEqual(by_flag['seed'].value(recipe), 0)

  def test_every_number_of_a_recipe_has_a_flag_and_a_help_line(self):
    recipe = recipes.digits()
    own = {
      'seed',
      'sync_batch_norm',
      'precision',
      'teacher_layer',
      'student_layer',
      'before_activation',
    }
    numbers = own | {
      f'{group}.{field}'
      for group, fields in dataclasses.asdict(recipe).items()
      if isinstance(fields, dict)
      for field in fields
    }
    self.assertEqual({leaf.path for leaf in recipes.leaves()}, numbers)
    for leaf in recipes.leaves():
      self.assertNotEmpty(leaf.field.metadata['help'], leaf.path)


class OverrideTest(parameterized.TestCase):
  def test_values_go_to_their_own_stage_alone(self):
    base = recipes.digits()
    changed = recipes.override(
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
    self.assertEqual(recipes.override(recipes.digits(), {}), recipes.digits())

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
  )
  def test_value_out_of_bounds_is_refused_by_flag(self, flag, value, wanted):
    with self.assertRaisesRegex(
      errors.UsageError, f'^--{flag}={value}: .*; give {wanted}'
    ):
      recipes.override(recipes.digits(), {flag: value})

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
  )
  def test_value_on_the_bound_is_taken(self, flag, value):
    changed = recipes.override(recipes.digits(), {flag: value})
    (leaf,) = (leaf for leaf in recipes.leaves() if leaf.flag == flag)
    self.assertEqual(leaf.value(changed), value)

  @parameterized.parameters(
    ('std', (0.0,), '--std=0.0: .*a value above 0'),
    ('mean', (float('nan'),), '--mean=nan: .*a finite number'),
    ('student_drop_epochs', (3, 0), '--student_drop_epochs=0: .*1 or more'),
  )
  def test_each_value_of_a_list_is_checked(self, flag, value, message):
    with self.assertRaisesRegex(errors.UsageError, message):
      recipes.override(recipes.digits(), {flag: value})

  def test_mean_and_std_of_different_lengths_are_refused(self):
    with self.assertRaisesRegex(
      errors.UsageError,
      '--mean has 3 channels and --std 1; give one value per channel',
    ):
      recipes.override(recipes.digits(), {'mean': (0.1, 0.2, 0.3)})

  @parameterized.parameters(
    (
      'method',
      'nope',
      '--method=nope: give scratch, one of ft, .*ofd, a sum',
    ),
    ('method', 'ft+ft', r'--method=ft\+ft: .*different ones'),
    ('method', 'ft+ft_no_translator', 'different ones'),
    ('method', 'scratch+kd', 'give scratch, one of'),
    ('beta', 'much', '--beta=much: give a number, or auto'),
  )
  def test_method_and_beta_that_are_none_are_refused(
    self, flag, value, message
  ):
    with self.assertRaisesRegex(errors.UsageError, message):
      recipes.override(recipes.digits(), {flag: value})

  def test_recipe_given_stays_as_it_was(self):
    base = recipes.digits()
    recipes.override(base, {'beta': 1.0})
    self.assertEqual(base, recipes.digits())


if __name__ == '__main__':
  absltest.main()
