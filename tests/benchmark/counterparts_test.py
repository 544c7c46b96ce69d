"""Networks without a counterpart in PyTorch are refused in one line."""

from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.benchmark import counterparts, jobs
from ft_tf.models import applications


def _job(**changes):
  return jobs.Job(name='', **changes)


class CounterpartsTest(parameterized.TestCase):
  @parameterized.parameters(8, 20, 50, 56, 110, 152)
  def test_depths_that_keras_has_are_not_those_for_cifar(self, depth):
    name = f'resnet{depth}'
    expected = None if applications.is_name(name) else depth
    self.assertEqual(counterparts.cifar_depth(name), expected)

  def test_names_of_torchvision_are_those_of_keras(self):
    for name in counterparts.TORCHVISION:
      self.assertTrue(applications.is_name(name))

  def test_networks_are_not_adapted_from_the_least_size_on(self):
    size = counterparts.LEAST_SIZE
    self.assertEqual(applications.strides_taken((size, size, 3)), 1)
    self.assertGreater(applications.strides_taken((size - 1, size, 3)), 1)

  @parameterized.parameters(
    'resnet18', 'resnet20x2', 'vgg13', 'wrn-16-2', 'resnet152', 'resnet7'
  )
  def test_network_without_counterpart_is_refused(self, name):
    with self.assertRaisesRegex(
      errors.UsageError, f'^--student={name} has no counterpart.*resnet50.*$'
    ):
      counterparts.check(_job(student=name))

  def test_small_images_are_refused_for_adapted_networks_alone(self):
    counterparts.check(_job())
    job = _job(teacher='resnet50', student='mobilenetv2', image_size=64)
    with self.assertRaisesRegex(
      errors.UsageError, '--teacher=resnet50.*--image_size=96 or more'
    ):
      counterparts.check(job)
    counterparts.check(_job(teacher='resnet50', image_size=96))

  def test_torchvision_is_needed_for_its_networks_alone(self):
    self.assertEqual(counterparts.packages(_job()), ('torch',))
    self.assertEqual(
      counterparts.packages(_job(student='mobilenetv2')),
      ('torch', 'torchvision'),
    )


if __name__ == '__main__':
  absltest.main()
