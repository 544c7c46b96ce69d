"""What a recipe is: the terms of its method, its way between processes."""

import pickle

from absl.testing import absltest, parameterized

from ft_tf import catalogue, recipe_flags, recipes


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


class ProcessesTest(absltest.TestCase):
  def test_recipe_goes_to_another_process(self):
    recipe = recipe_flags.override(catalogue.digits(), {'kd_alpha': 0.25})
    self.assertEqual(pickle.loads(pickle.dumps(recipe)), recipe)


if __name__ == '__main__':
  absltest.main()
