"""A student's compiled steps on small images, for tests of what they do."""

import keras
import tensorflow as tf

from ft_tf import factors, specs
from ft_tf.data import views
from ft_tf.methods import factor_transfer, registry
from ft_tf.models import fused, zoo
from ft_tf.signals import compiled
from ft_tf.training import distillation, optimizers, step
from tests import fixtures


def make_parts(recipe, strategy, seed=0, shape=(8, 8, 1)):
  """Returns student, teacher, terms and optimizer, with weights by seed."""
  dataset = fixtures.blobs(shape)
  spec = specs.spec(recipe, dataset)
  keras.utils.set_random_seed(seed)
  with strategy.scope():
    net = specs.build_student(recipe, dataset)
    teacher = zoo.build(recipe.teacher.model, spec)
    rate = factor_transfer.paraphrase_rate(recipe, teacher, net)
    paraphraser = factors.Paraphraser(rate)
    paraphraser.build(teacher.get_layer('group3').output.shape)
    methods = registry.make(
      recipe,
      registry.Parts(
        teacher=teacher,
        student=net,
        paraphrasers=[paraphraser],
        examples=dataset.train,
      ),
    )
    optimizer, _ = optimizers.make(recipe.student, 3.0, recipe.precision)
    optimizer.build(distillation.trained_variables(net, methods))
  return net, teacher, methods, optimizer


def compile_steps(
  recipe, strategy, net, teacher, methods, optimizer, **options
):
  """Returns the compiled loop at batch size 16."""
  signal = None
  if methods:
    signal = compiled.compile_signal(teacher, methods, recipe.precision)
  return distillation.compile_steps(
    strategy,
    net,
    methods,
    optimizer,
    distillation.make_forward(fused.fuse(net), methods, 16, signal=signal),
    **options,
  )


def batches(recipe, strategy, count):
  """Returns the batches of so many steps, distributed."""
  stream = views.stream(
    fixtures.blobs().train, recipe.data, seed=0, first_step=0, last_step=count
  )
  return strategy.experimental_distribute_dataset(stream)


class Program:
  """A student's networks and its compiled steps, which can begin anew.

  Attributes:
    net: The student.
    teacher: The teacher.
    methods: The terms.
    batches: Of the first three steps.
  """

  def __init__(self, recipe, strategy, **options):
    parts = make_parts(recipe, strategy)
    self.net, self.teacher, self.methods, optimizer = parts
    self.batches = batches(recipe, strategy, 3)
    self._steps = compile_steps(recipe, strategy, *parts, **options)
    self._models = distillation.trained_models(self.net, self.methods)
    variables = [v for model in self._models for v in model.variables]
    self._first_values = [
      (v, v.numpy()) for v in (*variables, *optimizer.variables)
    ]

  def begin(self):
    """Gives all that steps move the values from before the first step."""
    for variable, value in self._first_values:
      variable.assign(value)

  def train(self, count, batches=None):
    """Begins and runs steps, of given batches or `batches`; as `train`."""
    self.begin()
    batches = self.batches if batches is None else batches
    terms = self._steps(iter(batches), tf.constant(count))
    weights = [w for model in self._models for w in model.get_weights()]
    terms.pop(step.INPUT_WAIT)  # of this machine's clock
    return weights, {name: value.numpy() for name, value in terms.items()}


def train(recipe, strategy, count=3, **options):
  """Runs some steps; returns all trained weights and the rows of terms."""
  return Program(recipe, strategy, **options).train(count)
