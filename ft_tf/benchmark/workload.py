"""The networks, images and batches that the parts of the benchmark time."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ft_tf import catalogue, factors, recipe_flags
from ft_tf.benchmark import jobs
from ft_tf.data import example_sets, views
from ft_tf.methods import base, registry
from ft_tf.models import fused, layers, taps, zoo
from ft_tf.signals import compiled, constant
from ft_tf.training import distillation, precision, sgd, strategy

CLASSES = 10
_IMAGES = 2048


class Workload:
  """The networks, synthetic images and batches of a job."""

  def __init__(self, job: jobs.Job):
    if job.precision == 'auto':
      job = dataclasses.replace(job, precision=precision.automatic()[0])
    self.job = job
    self.recipe = recipe_flags.override(
      catalogue.get('cifar10_resnet56_resnet20'),
      {
        'precision': job.precision,
        'batch_size': job.batch_size,
        'teacher': job.teacher,
        'student': job.student,
      },
    )
    self.strategy = strategy.make(job.replicas)
    self.examples = make_examples(_IMAGES, job.image_size)
    spec = layers.Spec(
      self.examples.images.shape[1:],
      CLASSES,
      self.recipe.data.mean,
      self.recipe.data.std,
      precision=job.precision,
    )
    keras.utils.set_random_seed(0)
    with self.strategy.scope():
      self.student = zoo.build(job.student, spec)
      self.teacher = randomize_batch_norm(zoo.build(job.teacher, spec))
      self.paraphraser = factors.Paraphraser(0.5, dtype=job.precision)
      feature = taps.features(self.teacher, ['group3']).output['group3']
      self.paraphraser.build(feature.shape)
    self.feature_shape = feature.shape[1:]

  def methods(self) -> list[base.Method]:
    """Returns new methods of the recipe, with their adapters."""
    with self.strategy.scope():
      return registry.make(
        self.recipe,
        registry.Parts(
          teacher=self.teacher,
          student=self.student,
          paraphrasers=[self.paraphraser],
          examples=self.examples,
        ),
      )

  def signal(self, methods: list[base.Method]) -> constant.ConstantSignal:
    """Returns the compiled teacher signal of methods."""
    return compiled.compile_signal(self.teacher, methods, self.recipe.precision)

  def optimizer(
    self, variables: list[keras.Variable]
  ) -> keras.optimizers.Optimizer:
    """Returns a new optimizer for variables."""
    with self.strategy.scope():
      optimizer, _ = sgd.make(self.recipe.student, 390.0, self.recipe.precision)
      optimizer.build(variables)
    return optimizer

  def stream(self, **contents: Any) -> tf.data.Dataset:
    """Returns an endless stream of batches; arguments as of `views.stream`."""
    return views.stream(
      self.examples,
      self.recipe.data,
      seed=0,
      first_step=0,
      last_step=10**7,
      **contents,
    )

  def repeat(
    self, train_steps: Callable[..., dict[str, tf.Tensor]], **contents: Any
  ) -> Callable[[int], float]:
    """Returns a function that runs a number of compiled training steps."""
    batches = iter(
      self.strategy.experimental_distribute_dataset(self.stream(**contents))
    )

    def run(count):
      return float(train_steps(batches, tf.constant(count))['loss'][-1])

    return run

  def student_steps(
    self, *, cached: bool = False, alone: bool = False
  ) -> Callable[[int], float]:
    """Returns a function that trains the student for a number of steps.

    Args:
      cached: Whether the teacher signal comes from a cache.
      alone: Whether the student is trained without a teacher.
    """
    methods = [] if alone else self.methods()
    signal = self.signal(methods) if methods else None
    train_steps = distillation.compile_steps(
      self.strategy,
      self.student,
      methods,
      self.optimizer(distillation.trained_variables(self.student, methods)),
      distillation.make_forward(
        fused.fuse(self.student),
        methods,
        self.job.batch_size,
        signal=signal,
      ),
      jit=self.job.jit,
    )
    rows = None
    if cached and signal is not None:
      rows = _CachedRows(np.float16(signal.rows(self.examples.images[:256])))
    return self.repeat(train_steps, signals=rows)


def make_examples(count: int, size: int) -> example_sets.Examples:
  """Returns random images `[count, size, size, 3]` with random labels."""
  rng = np.random.default_rng(0)
  return example_sets.Examples(
    rng.integers(256, size=(count, size, size, 3), dtype=np.uint8),
    rng.integers(CLASSES, size=count),
  )


def randomize_batch_norm(model: keras.Model) -> keras.Model:
  """Sets random offsets and means of batch norm, as a trained network has.

  They start at 0, and TensorFlow leaves the addition of 0 out of the graph.
  """
  rng = np.random.default_rng(0)
  for weight in model.weights:
    if weight.name in ('beta', 'moving_mean'):
      weight.assign(0.1 * rng.normal(size=weight.shape))
  return model


class _CachedRows:
  """Stands for a signal cache: the same rows for every augmented copy."""

  def __init__(self, rows):
    self._rows = rows
    self.width = rows.shape[1]

  def read(self, numbers, examples):
    del numbers
    return self._rows[examples % len(self._rows)]
