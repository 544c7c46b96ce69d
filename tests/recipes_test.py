"""The loss terms that a recipe's method has."""

from absl.testing import absltest, parameterized

from ft_tf import recipes


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


if __name__ == '__main__':
  absltest.main()
