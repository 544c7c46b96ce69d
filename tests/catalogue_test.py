"""The recipes by name: the numbers of their sources, and the short ones."""

import dataclasses

from absl.testing import absltest, parameterized

from ft_tf import catalogue, errors, recipe_flags


class PublicRecipeTest(parameterized.TestCase):
  """Against the table read in Jangho-Kim/Factor-Transfer-pytorch."""

  def test_networks_and_data_equal_the_public_codes(self):
    recipe = catalogue.cifar10_resnet56_resnet20()
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
    stage = getattr(catalogue.cifar10_resnet56_resnet20(), stage)
    self.assertEqual(stage.epochs, 164)
    self.assertEqual(stage.drop_epochs, (82, 123))
    self.assertEqual(stage.drop_factor, 0.1)

  @parameterized.parameters('teacher', 'paraphraser', 'student')
  def test_sgd_equals_the_public_codes_in_every_stage(self, stage):
    stage = getattr(catalogue.cifar10_resnet56_resnet20(), stage)
    self.assertEqual(stage.learning_rate, 0.1)
    self.assertEqual(stage.momentum, 0.9)
    self.assertEqual(stage.weight_decay, 5e-4)
    self.assertEqual(stage.warmup_epochs, 0)

  def test_paraphraser_trains_6_epochs_of_l1_at_rate_half(self):
    paraphraser = catalogue.cifar10_resnet56_resnet20().paraphraser
    self.assertEqual(paraphraser.epochs, 6)
    self.assertEqual(paraphraser.drop_epochs, ())
    self.assertEqual(paraphraser.reconstruction, 'l1')
    self.assertEqual(paraphraser.rate, 0.5)

  def test_student_weighs_the_l1_factor_loss_500(self):
    student = catalogue.cifar10_resnet56_resnet20().student
    self.assertEqual(student.method, 'ft')
    self.assertEqual(student.beta, 500)
    self.assertEqual(student.p, 1)


class GetTest(parameterized.TestCase):
  @parameterized.parameters(*catalogue.RECIPES)
  def test_recipe_is_in_bounds(self, name):
    recipe_flags.check(catalogue.get(name))

  @parameterized.parameters(*catalogue.RECIPES)
  def test_numbers_have_the_types_their_flags_parse(self, name):
    recipe = catalogue.get(name)
    for leaf in recipe_flags.leaves():
      value = leaf.value(recipe)
      kind = leaf.field.type
      if isinstance(value, tuple):
        kind = kind.__args__[0]
      else:
        value = (value,)
      for each in value:
        self.assertIsInstance(each, kind, leaf.flag)
        self.assertNotIsInstance(each, bool if kind is int else (), leaf.flag)

  def test_unknown_name_is_refused_naming_close_ones(self):
    with self.assertRaisesRegex(
      errors.UsageError,
      "'cifar10'; did you mean cifar10_resnet56_resnet20, cifar10_w.* or "
      'cifar10_.*; --list_recipes prints all',
    ):
      catalogue.get('cifar10')

  def test_recipe_cannot_be_changed_by_accident(self):
    with self.assertRaises(dataclasses.FrozenInstanceError):
      catalogue.digits().student.beta = 3.0


class VariantsTest(parameterized.TestCase):
  @parameterized.parameters(*catalogue.VARIANTS)
  def test_variant_is_a_change_of_any_recipe(self, name):
    base = catalogue.cifar10_resnet56_resnet20()
    changed = recipe_flags.override(base, catalogue.VARIANTS[name])
    self.assertNotEqual(changed, base)
    self.assertEqual(changed.student.method, 'ft')


class ShortTest(parameterized.TestCase):
  def test_short_recipe_is_ten_epochs_of_one_cycle(self):
    long = catalogue.get('cifar10_resnet56_resnet20')
    short = catalogue.get('cifar10_resnet56_resnet20_short')
    for stage in ('teacher', 'student'):
      its = getattr(short, stage)
      self.assertEqual((its.epochs, its.decay), (10, 'cosine'))
      self.assertEqual((its.warmup_epochs, its.learning_rate), (3.0, 0.2))
      self.assertEqual(its.model, getattr(long, stage).model)
    self.assertEqual(short.data, long.data)
    self.assertEqual(short.student.beta, long.student.beta)

  def test_every_row_of_the_paper_has_a_short_recipe(self):
    own = {'digits', 'photos', 'photos_finetune', catalogue.DEFAULT}
    named = catalogue.RECIPES.keys() - own
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
    recipe = catalogue.get(name)
    self.assertEqual(recipe.teacher.model, teacher)
    self.assertEqual(recipe.student.model, student)
    self.assertEqual(recipe.student.epochs, epochs)
    self.assertEqual(recipe.data.dataset, name.partition('_')[0])


if __name__ == '__main__':
  absltest.main()
