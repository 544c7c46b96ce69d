"""The student's part of a recipe: names that clash, its way to a process."""

import dataclasses
import pickle

from absl.testing import absltest, parameterized

from ft_tf import catalogue, definitions, fields, recipe_flags
from tests import cosine


@dataclasses.dataclass(frozen=True)
class _TakenByAMethod:
  beta: float = fields.field('weight', default=1.0)


@dataclasses.dataclass(frozen=True)
class _TakenByTheRecipe:
  rate: float = fields.field('weight', default=1.0)


class StudentRecipeTest(parameterized.TestCase):
  @parameterized.parameters(
    ({'name': 'scratch'}, 'scratch means another method'),
    ({'numbers': _TakenByAMethod}, 'two fields .* named beta, .*: rename'),
    (
      {'numbers': _TakenByTheRecipe},
      'two fields .* named rate, .*: rename',
    ),
  )
  def test_name_that_a_recipe_has_already_is_refused(self, changes, message):
    definition = dataclasses.replace(cosine.DEFINITION, **changes)
    definitions.register(definition)
    self.addCleanup(definitions.unregister, definition.name)
    with self.assertRaisesRegex(ValueError, message):
      catalogue.digits()

  def test_recipe_goes_to_another_process(self):
    recipe = recipe_flags.override(catalogue.digits(), {'kd_alpha': 0.25})
    self.assertEqual(pickle.loads(pickle.dumps(recipe)), recipe)


if __name__ == '__main__':
  absltest.main()
