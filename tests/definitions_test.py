"""Registration: what a method gains by it, and what is refused."""

import dataclasses

from absl import flags
from absl.testing import absltest, parameterized

from ft_tf import (
  arms,
  catalogue,
  definitions,
  errors,
  fields,
  recipe_flags,
  recipes,
)
from ft_tf.cli import flag_sets
from ft_tf.training import stage
from tests import cosine


class RegisteredTest(absltest.TestCase):
  """A method that no source file names, once it is registered."""

  def setUp(self):
    super().setUp()
    self.enterContext(cosine.registered())

  def test_number_is_a_flag_of_the_commands(self):
    values = flags.FlagValues()
    flag_sets.define_recipe(values, ['student'])
    self.assertEqual(
      values['cosine_weight'].help, 'weight of the cosine loss (cosine)'
    )
    self.assertIn(' cosine, ', values['method'].help)

  def test_number_has_its_bounds(self):
    recipe = recipe_flags.override(catalogue.digits(), {'cosine_weight': 3})
    self.assertEqual(recipe.student.cosine_weight, 3)
    with self.assertRaisesRegex(
      errors.UsageError, '^--cosine_weight=-1: weight of .*; give 0 or more'
    ):
      recipe_flags.override(recipe, {'cosine_weight': -1})

  def test_method_is_a_term_of_sums(self):
    for method in ('cosine', 'ft+cosine'):
      recipe = recipe_flags.override(catalogue.digits(), {'method': method})
      self.assertEqual(recipe.student.method, method)
    self.assertTrue(recipes.needs_paraphraser('ft+cosine'))
    self.assertFalse(recipes.needs_paraphraser('cosine'))
    with self.assertRaisesRegex(errors.UsageError, 'one of at, cosine, dkd'):
      recipes.terms('nope')

  def test_number_is_part_of_the_students_identity_and_of_nothing_else(self):
    for part in ('teacher', 'paraphraser', 'student'):
      recipe = recipe_flags.override(catalogue.digits(), {'cosine_weight': 3.0})
      identity = stage.identity(part, recipe)
      added = {'cosine_weight': 3.0} if part == 'student' else {}
      definitions.unregister('cosine')
      without = stage.identity(part, catalogue.digits())
      definitions.register(cosine.DEFINITION)
      without[part] |= added
      self.assertEqual(identity, without)

  def test_sweep_of_its_number_concerns_it_alone(self):
    found = arms.make(['ft', 'kd+cosine'], {'cosine_weight': [1.0, 2.0]})
    self.assertEqual(
      [arm.name for arm in found],
      ['ft', 'kd+cosine,cosine_weight=1.0', 'kd+cosine,cosine_weight=2.0'],
    )

  def test_nothing_is_left_of_it_once_it_is_unregistered(self):
    definitions.unregister('cosine')
    self.addCleanup(definitions.register, cosine.DEFINITION)
    with self.assertRaisesRegex(errors.UsageError, '--method=cosine'):
      recipes.terms('cosine')
    with self.assertRaisesRegex(errors.UsageError, 'has no cosine_weight'):
      recipe_flags.override(catalogue.digits(), {'cosine_weight': 3})


@dataclasses.dataclass(frozen=True)
class _WithoutDefault:
  own_weight: float = fields.field('weight')


@dataclasses.dataclass(frozen=True)
class _WithoutHelp:
  own_weight: float = 1.0


def _definition(**changes):
  return dataclasses.replace(cosine.DEFINITION, **changes)


class RefusedTest(parameterized.TestCase):
  @parameterized.parameters(
    ({'name': 'ft'}, "'ft' is registered already: .*unregister"),
    ({'name': 'a+b'}, 'letters, digits'),
    ({'numbers': _WithoutDefault}, 'own_weight needs a help text and a def'),
    ({'numbers': _WithoutHelp}, 'own_weight needs a help text and a default'),
  )
  def test_definition_that_is_none_is_not_registered(self, changes, message):
    known = definitions.registered()
    with self.assertRaisesRegex(ValueError, message):
      definitions.register(_definition(**changes))
    self.assertEqual(definitions.registered(), known)


class DefinitionTest(absltest.TestCase):
  def test_numbers_are_selected_from_the_student(self):
    recipe = recipe_flags.override(
      catalogue.digits(), {'temperature': 3.0, 'dkd_beta': 5.0}
    )
    numbers = {
      name: definition.select_numbers(recipe.student)
      for name, definition in definitions.registered().items()
    }
    # kd and dkd share the temperature.
    self.assertEqual(numbers['kd'].temperature, 3.0)
    self.assertEqual(
      dataclasses.asdict(numbers['dkd']),
      {'temperature': 3.0, 'dkd_alpha': 1.0, 'dkd_beta': 5.0},
    )

  def test_method_without_numbers_has_none(self):
    definition = _definition(numbers=None)
    self.assertIsNone(definition.select_numbers(catalogue.digits().student))
    self.assertFalse(definition.reads('cosine_weight'))

  def test_methods_are_sorted_by_name(self):
    self.assertEqual(
      [*definitions.registered()],
      [
        'at',
        'dkd',
        'fitnet',
        'ft',
        'ft_no_paraphraser',
        'ft_no_translator',
        'kd',
        'ofd',
        'sp',
      ],
    )


if __name__ == '__main__':
  absltest.main()
