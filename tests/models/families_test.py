"""Families of networks: small to large, and every one can be built."""

from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.models import families


class FamilyTest(parameterized.TestCase):
  @parameterized.parameters(
    ('resnet20', 'resnet8', 'resnet110'),
    ('resnet20x0.5', 'resnet8x0.5', 'resnet110x0.5'),
    ('resnet56-parameter-free', 'resnet8-parameter-free', None),
    ('wrn-16-4', 'wrn-16-1', 'wrn-16-10'),
    ('mobilenetv3small', 'mobilenetv3smallx0.35', 'mobilenetv3smallx1.3'),
    ('mobilenetv2x0.5', 'mobilenetv2x0.35', 'mobilenetv2x1.3'),
    ('efficientnetb3', 'efficientnetb0', 'efficientnetb7'),
    ('efficientnetv2b0', 'efficientnetv2b0', 'efficientnetv2b3'),
  )
  def test_runs_from_the_smallest_to_the_largest(self, name, first, last):
    family = families.family(name)
    self.assertEqual(family[0], first)
    if last is not None:
      self.assertEqual(family[-1], last)

  @parameterized.parameters('mine.keras', 'vgg13', 'resnet18', 'resnet21')
  def test_what_has_no_family_is_refused(self, name):
    with self.assertRaisesRegex(errors.UsageError, 'mobilenetv3small'):
      families.family(name)


if __name__ == '__main__':
  absltest.main()
