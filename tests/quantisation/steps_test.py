"""What a step says of its output without being traced."""

from absl.testing import absltest

from ft_tf.models import layers, zoo
from ft_tf.quantisation import twin as twins
from tests import quantised_networks


def _outputs(twin):
  """Returns what each step of a twin returns, by name."""
  outputs = {}

  def recording(name, call):
    def record(*inputs, **options):
      outputs[name] = call(*inputs, **options)
      return outputs[name]

    return record

  for step in twin.steps:
    step.call = recording(step.name, step.call)
  images, _ = quantised_networks.images(2)
  twin.model(images.astype('float32'))
  return outputs


class OutputSpecTest(absltest.TestCase):
  def test_it_is_what_the_step_returns(self):
    shape = quantised_networks.SHAPE
    spec = layers.Spec(shape, 10, (0.5,) * 3, (0.25,) * 3)
    for student in (
      quantised_networks.fresh('mixed_bfloat16'),
      zoo.build('resnet8x0.25', spec),
    ):
      twin = twins.build(student)
      outputs = _outputs(twin)
      self.assertLen(outputs, len(twin.steps))
      for step in twin.steps:
        value = outputs[step.name]
        self.assertEqual((None, *value.shape[1:]), step.output.shape, step.name)
        self.assertEqual(value.dtype, step.output.dtype, step.name)


if __name__ == '__main__':
  absltest.main()
